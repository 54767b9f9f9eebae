// SPDX-License-Identifier: Apache-2.0
// dekctl endpoint ...: legs beneath other devices, and the protocol by hand.
#include <array>
#include <memory>

#include "block_view.h"
#include "options.h"
#include "printable.h"

namespace dek::ctl {
namespace {

// The command went well; whether the endpoint agreed is in the block.
Result<void> send(Session& session, const char* opcode, bool hex) {
    session.arguments["opcode"] = opcode;
    const Result<Json> answer = session.call("EndpointCommand");
    if (!answer)
        return tl::unexpected<Error>(answer.error());
    if (session.json)
        session.print_json(*answer);
    else
        print_exchange(session.out, *answer, hex);
    const auto status = number_at(*answer, "status");
    if (!status)
        return fail(Errc::internal, "the controller's answer has no status in it");
    if (*status != 0)
        return fail(Errc::refused, "the endpoint answers " + std::to_string(*status) + ", " +
                                       text_at(*answer, "status_text"));
    return {};
}

Action exchange(CLI::App& app, Session& session, const char* opcode) {
    const auto hex = std::make_shared<bool>(false);
    app.add_flag("--hex", *hex, "Both blocks byte by byte, too; key bytes show as zeros");
    return [&session, opcode, hex] { return send(session, opcode, *hex); };
}

void endpoint_argument(CLI::App& app, Session& session) {
    named_argument(app, session, "uuid", "uuid", "UUID of the endpoint, as endpoint list shows it")
        ->required();
}

void ranges_argument(CLI::App& app, Session& session) {
    app.add_option_function<std::string>(
           "ranges",
           [&session](const std::string& ranges) {
               check_ranges(ranges, "ranges");
               session.arguments["ranges"] = ranges;
           },
           "FIRST-LAST[,...]: 512-byte LBAs of the device under the endpoint")
        ->type_name("RANGES")
        ->required();
}

// Handles beyond 2^53 are hexadecimal in the controller's answers, so they are here.
bool hexadecimal(const std::string& text) {
    return text.starts_with("0x") && text.size() > 2 && text.size() <= 18 &&
           text.find_first_not_of("0123456789abcdef", 2) == std::string::npos;
}

CLI::Option* association_option(CLI::App& app, Session& session, const char* help) {
    return app
        .add_option_function<std::string>(
            "--association",
            [&session](const std::string& text) {
                if (hexadecimal(text))
                    session.arguments["association"] = text;
                else if (text.find_first_not_of("0123456789") != std::string::npos)
                    usage_error("--association",
                                "is neither a decimal number nor 0x and hexadecimal digits: " +
                                    text);
                else
                    session.arguments["association"] = number_from(text, "--association");
            },
            help)
        ->type_name("HANDLE");
}

// Key and application info of Associate and Update.
void association_body(CLI::App& app, Session& session) {
    ranges_argument(app, session);
    text_option(app, session, "--key", "key", "KEY", "ID or name of the key")->required();
    number_option(app, session, "--data-unit", "data_unit", "BYTES",
                  "Bytes that are encrypted as one");
    choice_option(app, session, "--tweak", "tweak", {"unit", "lba512"},
                  "How data units are numbered");
    number_option(app, session, "--device-origin", "device_origin", "LBA",
                  "Device LBA that numbering starts from");
    number_option(app, session, "--logical-origin", "logical_origin", "LBA",
                  "Volume LBA found there");
    number_option(app, session, "--chunk", "chunk", "LBAS", "Stripe chunk; 0: not striped");
    number_option(app, session, "--stripes", "stripes", "N", "Stripes across");
    number_option(app, session, "--leg", "leg", "N", "Which of the stripes this is, from 0");
}

Action list(CLI::App&, Session& session) {
    return [&session] { return session.answer("EndpointList", print_endpoints); };
}

// Paths from the root, as they are needed elsewhere; names as they are.
Json listed(const std::vector<std::string>& words, bool all_paths) {
    Json list = Json::array();
    for (const auto& word : words)
        list.push_back(all_paths || word.find('/') != std::string::npos ? absolute(word) : word);
    return list;
}

CLI::Option* several(CLI::App& app, Session& session, const char* name, const char* argument,
                     bool all_paths, const char* help) {
    return app
        .add_option_function<std::vector<std::string>>(
            name,
            [&session, argument, all_paths](const std::vector<std::string>& words) {
                session.about = words.front();
                session.arguments[argument] = listed(words, all_paths);
            },
            help)
        ->type_name("TEXT")
        ->required();
}

void print_made(std::ostream& out, const Json& answer) {
    for (const Json& line : array_at(answer, "advice"))
        if (line.is_string())
            out << printable(line.get<std::string>()) << '\n';
}

Action create(CLI::App& app, Session& session) {
    several(app, session, "devices", "devices", true,
            "Block devices; several with --multipath: paths of one disk");
    text_option(app, session, "--name", "name", "NAME",
                "It appears as /dev/mapper/dekleg-NAME; the device's own name if not given");
    number_option(app, session, "--data-unit", "data_unit", "BYTES",
                  "Bytes that are encrypted as one: 512, 1024, 2048 or 4096");
    choice_option(app, session, "--fence", "fence", {"eio", "transport", "hold"},
                  "What is answered where a key is missing");
    flag_option(app, session, "--no-engine", "no_engine", "It never encrypts, it only fences");
    text_option(app, session, "--multipath", "multipath", "NAME",
                "The devices become paths of /dev/mapper/NAME, a new map or one that is there");
    flag_option(app, session, "--queue-if-no-path", "queue_if_no_path",
                "I/O waits for a path where none is left");
    number_option(app, session, "--group", "group", "N",
                  "Priority group of these paths; lower ones are used first");
    flag_option(app, session, "--force", "force", "Over the header of a volume");
    return [&session] { return session.answer("EndpointCreate", print_made); };
}

Action remove(CLI::App& app, Session& session) {
    several(app, session, "endpoints", "endpoints", false,
            "Devices or names of endpoints, or of multipath maps with all their paths");
    return [&session] { return session.answer("EndpointRemove", {}); };
}

Action handshake(CLI::App& app, Session& session) {
    endpoint_argument(app, session);
    text_option(app, session, "--class", "class", "NAME",
                "Class that is addressed: EHBA, DDM or RRM");
    return exchange(app, session, "handshake");
}

Action query(CLI::App& app, Session& session) {
    endpoint_argument(app, session);
    ranges_argument(app, session);
    return exchange(app, session, "query");
}

Action associate(CLI::App& app, Session& session) {
    endpoint_argument(app, session);
    association_body(app, session);
    association_option(app, session, "Refresh this one; without it, a new one is made");
    return exchange(app, session, "associate");
}

Action update(CLI::App& app, Session& session) {
    endpoint_argument(app, session);
    association_body(app, session);
    association_option(app, session, "The one whose map or key is replaced")->required();
    return exchange(app, session, "update");
}

Action disassociate(CLI::App& app, Session& session) {
    endpoint_argument(app, session);
    association_option(app, session, "The one whose key is dropped; its ranges are fenced then")
        ->required();
    return exchange(app, session, "disassociate");
}

constexpr std::array<Command, 8> commands{{
    {"endpoint create", "Put endpoints beneath LVM, mirrors or multipath", create},
    {"endpoint remove", "Take them away again", remove},
    {"endpoint list", "List the endpoints, and those of the configuration that are not there",
     list},
    {"endpoint handshake", "Ask whether an endpoint of a class is there", handshake},
    {"endpoint query", "Ask whether it can encrypt these ranges", query},
    {"endpoint associate", "Give it a key for these ranges", associate},
    {"endpoint update", "Replace map or key of an association", update},
    {"endpoint disassociate", "Take an association's key away", disassociate},
}};

} // namespace

std::span<const Command> endpoint_commands() {
    return commands;
}

} // namespace dek::ctl
