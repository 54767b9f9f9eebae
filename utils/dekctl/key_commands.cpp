// SPDX-License-Identifier: Apache-2.0
// dekctl key ...
#include <array>
#include <memory>

#include "key_view.h"
#include "options.h"
#include "secret_source.h"
#include "terminal.h"

namespace dek::ctl {
namespace {

void add_attributes(Session& session, const std::vector<std::string>& pairs) {
    Json attributes = Json::object();
    for (const std::string& pair : pairs) {
        const std::size_t equals = pair.find('=');
        if (equals == std::string::npos || equals == 0)
            usage_error("--attribute", "is NAME=VALUE, not " + pair);
        attributes[pair.substr(0, equals)] = pair.substr(equals + 1);
    }
    session.arguments["attributes"] = std::move(attributes);
}

CLI::Option* key_argument(CLI::App& app, Session& session) {
    return named_argument(app, session, "key", "key", "ID or name of the key")->required();
}

Action create(CLI::App& app, Session& session) {
    text_option(app, session, "--name", "name", "NAME", "Name of the new key")->required();
    app.add_option_function<std::string>(
           "--bits",
           [&session](const std::string& text) {
               const std::uint64_t bits = number_from(text, "--bits");
               if (bits != 256 && bits != 512)
                   usage_error("--bits", "is 512 (AES-256-XTS) or 256 (AES-128-XTS)");
               session.arguments["bits"] = bits;
           },
           "512: AES-256-XTS (default), 256: AES-128-XTS")
        ->type_name("256|512");
    app.add_option_function<std::vector<std::string>>(
           "--attribute",
           [&session](const std::vector<std::string>& pairs) { add_attributes(session, pairs); },
           "Kept with the key; repeatable")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    return [&session] { return session.answer("KeyCreate", print_key_line); };
}

struct Sources {
    std::string file, wrapped, passphrase, public_key, output;
};

template <class T>
tl::unexpected<Error> error_of(const Result<T>& failed) {
    return tl::unexpected<Error>(failed.error());
}

Result<void> pass_secret(Session& session, const char* name, const Result<Secret>& secret) {
    if (!secret)
        return error_of(secret);
    Result<Fd> pipe = pipe_with(*secret);
    if (!pipe)
        return error_of(pipe);
    session.pass(name, std::move(*pipe));
    return {};
}

Result<void> pass_sources(Session& session, const Sources& from) {
    if (!from.file.empty())
        return pass_secret(session, "material", key_material_from(from.file));
    Result<Secret> text = secret_from(from.wrapped, max_wrapped, "the wrapped key");
    while (text && text->size() > 1 && text->bytes()[text->size() - 1] == '\n' &&
           text->bytes()[text->size() - 2] == '\n')
        text->truncate(text->size() - 1); // an editor's empty lines at the end
    const Result<void> passed = pass_secret(session, "wrapped", text);
    if (!passed)
        return passed;
    return pass_secret(session, "passphrase",
                       passphrase_from(from.passphrase, "the passphrase", false));
}

Action import(CLI::App& app, Session& session) {
    const auto from = std::make_shared<Sources>();
    app.add_option_function<std::string>(
           "--name",
           [&session](const std::string& name) {
               session.about = name;
               session.arguments["name"] = name;
           },
           "Name of the new key")
        ->type_name("NAME")
        ->required();
    CLI::Option* file =
        app.add_option("--file", from->file, "32 or 64 raw bytes; -: standard input")
            ->type_name("FILE");
    app.add_option_function<std::string>(
           "--id", [&session](const std::string& id) { session.arguments["id"] = id; },
           "The ID that volumes know the key by; without it, a new one")
        ->type_name("ID")
        ->needs(file);
    CLI::Option* wrapped =
        app.add_option("--wrapped", from->wrapped, "What key export gave; -: standard input")
            ->type_name("FILE");
    app.add_option("--passphrase-file", from->passphrase,
                   "The passphrase it is wrapped under; without it, asked on the terminal")
        ->type_name("FILE")
        ->needs(wrapped);
    file->excludes(wrapped);
    return [&session, from]() -> Result<void> {
        if (from->wrapped == "-" && from->passphrase == "-")
            usage_error("--passphrase-file:", "standard input cannot be both");
        if (from->file.empty() && from->wrapped.empty())
            usage_error("--file", "or --wrapped is required");
        if (Result<void> passed = pass_sources(session, *from); !passed)
            return passed;
        return session.answer("KeyImport", print_key_line);
    };
}

// Text that is sent in a message, so it must not be the private half.
Result<void> add_public_key(Session& session, const std::string& path) {
    const Result<Secret> file = read_secret_file(path, max_wrapped, "the public key");
    if (!file)
        return error_of(file);
    const std::string_view pem(reinterpret_cast<const char*>(file->bytes().data()), file->size());
    if (pem.find("PRIVATE") != std::string_view::npos ||
        pem.find("-----BEGIN") == std::string_view::npos)
        return fail(Errc::invalid_argument, path + " is not a public key in PEM");
    session.arguments["public_key"] = std::string(pem);
    return {};
}

Result<void> export_key(Session& session, const Sources& to) {
    const Result<void> under =
        to.public_key.empty() ? pass_secret(session, "passphrase",
                                            passphrase_from(to.passphrase, "the passphrase", true))
                              : add_public_key(session, to.public_key);
    if (!under)
        return under;
    if (to.output.empty())
        return session.answer("KeyExport", print_wrapped);
    Result<NewFile> file = NewFile::create(to.output);
    if (!file)
        return error_of(file);
    const Result<Json> answer = session.call("KeyExport");
    if (!answer)
        return error_of(answer);
    const Json& wrapped = answer->contains("wrapped") ? (*answer)["wrapped"] : Json();
    if (!wrapped.is_string())
        return fail(Errc::internal, "the controller's answer has no wrapped key in it");
    std::string text = wrapped.get<std::string>();
    if (!text.ends_with('\n'))
        text += '\n';
    if (Result<void> written =
            file->write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        !written)
        return written;
    return file->keep();
}

Action export_wrapped(CLI::App& app, Session& session) {
    key_argument(app, session);
    const auto to = std::make_shared<Sources>();
    CLI::Option* passphrase =
        app.add_option(
               "--passphrase-file", to->passphrase,
               "Wrap under this passphrase; -: standard input; without it, asked on the terminal")
            ->type_name("FILE");
    app.add_option("--public-key", to->public_key, "Wrap under this RSA or EC key (PEM)")
        ->type_name("FILE")
        ->excludes(passphrase);
    app.add_option("--output", to->output, "Into a new file; without it, to standard output")
        ->type_name("FILE");
    return [&session, to] { return export_key(session, *to); };
}

Action list(CLI::App& app, Session& session) {
    flag_option(app, session, "--all", "all", "Destroyed ones too");
    return [&session] { return session.answer("KeyList", print_keys); };
}

Action show(CLI::App& app, Session& session) {
    key_argument(app, session);
    return [&session] { return session.answer("KeyShow", print_key); };
}

Action state(CLI::App& app, Session& session) {
    key_argument(app, session);
    choice_option(app, session, "state", "state",
                  {"pre-active", "active", "deactivated", "compromised"},
                  "The new state (NIST SP 800-57)")
        ->required();
    return [&session] { return session.answer("KeyState", print_key_line); };
}

Action destroy(CLI::App& app, Session& session) {
    key_argument(app, session);
    flag_option(app, session, "--force", "force", "Do not ask; a script needs it");
    return [&session]() -> Result<void> {
        if (Result<void> sure = confirm(session, "What is encrypted with " + session.about +
                                                     " can never be read again.");
            !sure)
            return sure;
        return session.answer("KeyDestroy", print_key_line);
    };
}

constexpr std::array<Command, 7> commands{{
    {"key create", "Make a new key in the keystore", create},
    {"key import", "Take a key from a file or standard input", import},
    {"key export", "Give out a key, wrapped under a passphrase or a public key", export_wrapped},
    {"key list", "List keys", list},
    {"key show", "Show a key, and the volumes that use it now", show},
    {"key state", "Change the state of a key", state},
    {"key destroy", "Destroy a key for good", destroy},
}};

} // namespace

std::span<const Command> key_commands() {
    return commands;
}

} // namespace dek::ctl
