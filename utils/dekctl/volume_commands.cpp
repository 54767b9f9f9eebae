// SPDX-License-Identifier: Apache-2.0
// dekctl protect, attach, detach, erase, status, topology, switch, resize.
#include <array>
#include <chrono>
#include <memory>
#include <thread>

#include "options.h"
#include "terminal.h"
#include "topology_view.h"
#include "volume_view.h"

namespace dek::ctl {
namespace {

// RANGES or RANGES@KEY, once for each --encrypt.
void add_encrypt(Session& session, const std::vector<std::string>& specs) {
    Json encrypt = Json::array();
    for (const std::string& spec : specs) {
        const std::size_t at = spec.find('@');
        const std::string ranges = spec.substr(0, at);
        check_ranges(ranges, "--encrypt");
        Json entry{{"ranges", ranges}};
        if (at != std::string::npos) {
            if (at + 1 == spec.size())
                usage_error("--encrypt:", "no key after the @ in " + spec);
            entry["key"] = spec.substr(at + 1);
        }
        encrypt.push_back(std::move(entry));
    }
    session.arguments["encrypt"] = std::move(encrypt);
}

void shim_option(CLI::App& app, Session& session) {
    choice_option(app, session, "--shim", "shim", {"auto", "kernel", "fuse"},
                  "Which shim serves the volume");
}

Action protect(CLI::App& app, Session& session) {
    device_argument(app, session);
    text_option(app, session, "--name", "name", "NAME", "The volume appears as /dev/dek/NAME")
        ->required();
    text_option(app, session, "--key", "key", "KEY",
                "ID or name of the key; without it, one is made");
    app.add_option_function<std::vector<std::string>>(
           "--encrypt",
           [&session](const std::vector<std::string>& specs) { add_encrypt(session, specs); },
           "What is encrypted: FIRST-LAST[,...], FIRST- or all, and with which key; repeatable; "
           "default: all, in place all but the header")
        ->type_name("RANGES[@KEY]")
        ->allow_extra_args(false);
    choice_option(app, session, "--tweak", "tweak", {"unit", "lba512"},
                  "How data units are numbered");
    app.add_option_function<std::string>(
           "--data-unit",
           [&session](const std::string& text) {
               const std::uint64_t unit = number_from(text, "--data-unit");
               if (unit != 512 && unit != 1024 && unit != 2048 && unit != 4096)
                   usage_error("--data-unit", "is 512, 1024, 2048 or 4096");
               session.arguments["data_unit"] = unit;
           },
           "Bytes that are encrypted as one: 512, 1024, 2048 or 4096")
        ->type_name("BYTES");
    flag_option(app, session, "--in-place", "in_place",
                "The volume is the device one to one, the header in a reserved range of it "
                "(by default at LBA 1024)");
    header_place(app, session);
    choice_option(app, session, "--endpoint", "endpoint", {"prefer", "hardware-only", "never"},
                  "When an endpoint encrypts rather than dm-crypt");
    shim_option(app, session);
    flag_option(app, session, "--force", "force", "Even where data would become unreadable");
    return [&session] { return session.answer("Protect", print_volume_line); };
}

void wait_option(CLI::App& app, const char* help, std::function<void(std::chrono::seconds)> take) {
    app.add_option_function<std::string>(
           "--wait",
           [take = std::move(take)](const std::string& text) {
               const std::uint64_t seconds = number_from(text, "--wait");
               if (seconds > 600)
                   usage_error("--wait", "is at most 600 seconds");
               take(std::chrono::seconds(seconds));
           },
           help)
        ->type_name("SECONDS")
        ->take_last(); // a unit's own, then its OPTIONS
}

Action attach(CLI::App& app, Session& session) {
    device_argument(app, session);
    text_option(app, session, "--name", "name", "NAME", "Another name than the header's");
    header_place(app, session);
    shim_option(app, session);
    flag_option(app, session, "--force", "force", "Even an older header, or against a warning");
    const auto patience = std::make_shared<std::chrono::seconds>(0);
    wait_option(app, "Seconds that a device that does not answer may take; default 0",
                [patience](std::chrono::seconds given) { *patience = given; });
    return [&session, patience] {
        const auto end = std::chrono::steady_clock::now() + *patience;
        for (;;) {
            const auto begun = std::chrono::steady_clock::now();
            auto done = session.answer("Attach", print_volume_line);
            const auto now = std::chrono::steady_clock::now();
            const bool at_work = session.timeout.count() && now - begun >= session.timeout;
            if (done || done.error().code != Errc::timeout || at_work || now >= end)
                return done;
            std::this_thread::sleep_for(std::chrono::seconds(1));
        }
    };
}

Action detach(CLI::App& app, Session& session) {
    named_argument(app, session, "name", "name", "Name of the volume")->required();
    wait_option(app, "Seconds that a volume in use may take to become free; default 5",
                [&session](std::chrono::seconds given) {
                    session.arguments["timeout"] = given.count() * 1000;
                });
    return [&session] { return session.answer("Detach", {}); };
}

Result<void> confirm_loss(Session& session) {
    const std::string what =
        session.arguments.contains("destroy_keys")
            ? "The keys of " + session.about +
                  " will be gone, and with them all data and backups of it."
            : "What is encrypted on " + session.about +
                  " can never be read again, unless there is a backup of its header.";
    return confirm(session, what);
}

Action erase(CLI::App& app, Session& session) {
    device_argument(app, session);
    header_place(app, session);
    flag_option(app, session, "--destroy-keys", "destroy_keys",
                "Its keys too: nobody can read the data again");
    flag_option(app, session, "--force", "force", "Do not ask; a script needs it");
    return [&session]() -> Result<void> {
        if (Result<void> sure = confirm_loss(session); !sure)
            return sure;
        return session.answer("Erase", print_erased);
    };
}

Action status(CLI::App& app, Session& session) {
    named_argument(app, session, "name", "name", "One volume, in full");
    return [&session] {
        return session.answer("Status",
                              session.about.empty() ? View(print_status) : View(print_volumes));
    };
}

Action topology(CLI::App& app, Session& session) {
    named_argument(app, session, "name", "name", "Name of the volume")->required();
    const auto dot = std::make_shared<bool>(false);
    app.add_flag("--dot", *dot, "A graph for Graphviz's dot(1)");
    return [&session, dot]() -> Result<void> {
        if (*dot && session.json)
            usage_error("--dot", "excludes --json");
        if (*dot)
            return session.answer("Topology", print_topology_dot);
        return session.answer("Topology", [](std::ostream& out, const Json& answer) {
            print_topology(out, answer, {terminal_width(), colour_wanted()});
        });
    };
}

Action switch_volume(CLI::App& app, Session& session) {
    named_argument(app, session, "name", "name", "Name of the volume")->required();
    choice_option(app, session, "--to", "to", {"endpoint", "software", "auto"},
                  "Who shall encrypt from now on")
        ->required();
    return [&session] { return session.answer("Switch", print_volume_line); };
}

Action resize(CLI::App& app, Session& session) {
    named_argument(app, session, "name", "name", "Name of the volume")->required();
    number_option(app, session, "--size", "size", "LBAS",
                  "New length in 512-byte LBAs; without it, all there is");
    flag_option(app, session, "--force", "force", "Shrink it even while it is in use");
    return [&session] { return session.answer("Resize", print_volume_line); };
}

constexpr std::array<Command, 8> commands{{
    {"protect", "Make an encrypted volume on a device and attach it", protect},
    {"attach", "Bring up a volume from its header", attach},
    {"detach", "Take a volume down", detach},
    {"erase", "Remove the header from a device", erase},
    {"status", "Show volumes, the shim and the keystore", status},
    {"topology", "Draw who encrypts which LBAs of a volume", topology},
    {"switch", "Move the encryption of a volume to another layer, live", switch_volume},
    {"resize", "Let a volume follow the size of its device", resize},
}};

} // namespace

std::span<const Command> volume_commands() {
    return commands;
}

} // namespace dek::ctl
