// SPDX-License-Identifier: Apache-2.0
// dekctl keystore ..., cache flush: what unseals the master key, and the database it guards.
#include <array>
#include <cerrno>
#include <memory>

#include <unistd.h>

#include "key_view.h"
#include "options.h"
#include "secret_source.h"

namespace dek::ctl {
namespace {

// What opens, or shall open, the master key: exactly one of them.
struct Unsealer {
    std::string file, credential, passphrase_file, recovery_file;
    bool passphrase = false, recovery = false;
};

// Which of them a command takes besides files, credentials and passphrases.
enum class Recovery { none, given, made };

std::shared_ptr<Unsealer> unsealer_options(CLI::App& app, Recovery recovery, bool required) {
    auto with = std::make_shared<Unsealer>();
    CLI::Option_group* group = app.add_option_group("What unseals it");
    group
        ->add_option("--file", with->file,
                     "32 random bytes in a file of root's; init and enrol make it")
        ->type_name("PATH");
    group->add_option("--credential", with->credential, "A systemd credential of kcmd.service")
        ->type_name("NAME");
    group->add_flag("--passphrase", with->passphrase, "A passphrase, asked on the terminal");
    group
        ->add_option("--passphrase-file", with->passphrase_file,
                     "A passphrase from a file; -: standard input")
        ->type_name("FILE");
    if (recovery != Recovery::none)
        group->add_flag("--recovery", with->recovery,
                        recovery == Recovery::made ? "A recovery key, made and shown once"
                                                   : "The recovery key, asked on the terminal");
    if (recovery == Recovery::given)
        group
            ->add_option("--recovery-file", with->recovery_file,
                         "The recovery key from a file; -: standard input")
            ->type_name("FILE");
    group->require_option(required ? 1 : 0, 1);
    return with;
}

Result<void> pass_line(Session& session, const char* name, const Result<Secret>& secret) {
    if (!secret)
        return tl::unexpected<Error>(secret.error());
    Result<Fd> pipe = pipe_with(*secret);
    if (!pipe)
        return tl::unexpected<Error>(pipe.error());
    session.pass(name, std::move(*pipe));
    return {};
}

// `sets`: a passphrase is chosen, so it is asked twice.
Result<void> pass_unsealer(Session& session, const Unsealer& with, bool sets,
                           const char* path_argument = "path") {
    Json& arguments = session.arguments;
    if (!with.file.empty()) {
        arguments["kind"] = "file";
        arguments[path_argument] = absolute(with.file);
    } else if (!with.credential.empty()) {
        arguments["kind"] = "credential";
        arguments["name"] = with.credential;
    } else if (with.passphrase || !with.passphrase_file.empty()) {
        arguments["kind"] = "passphrase";
        return pass_line(session, "passphrase",
                         passphrase_from(with.passphrase_file, "the passphrase", sets));
    } else if (with.recovery || !with.recovery_file.empty()) {
        arguments["kind"] = "recovery";
        return pass_line(session, "recovery",
                         passphrase_from(with.recovery_file, "the recovery key", false));
    }
    return {};
}

Action init(CLI::App& app, Session& session) {
    const auto with = unsealer_options(app, Recovery::none, true);
    return [&session, with]() -> Result<void> {
        if (Result<void> passed = pass_unsealer(session, *with, true); !passed)
            return passed;
        return session.answer("KeystoreInit", print_keystore);
    };
}

Action unlock(CLI::App& app, Session& session) {
    const auto with = unsealer_options(app, Recovery::given, false);
    return [&session, with]() -> Result<void> {
        if (Result<void> passed = pass_unsealer(session, *with, false); !passed)
            return passed;
        return session.answer("KeystoreUnlock", {});
    };
}

// The recovery key: all that is in the pipe. The controller has answered, so nothing more comes,
// even if it has not closed its end yet.
Result<Secret> drawn_key(const Pipe& pipe) {
    Secret key(1024);
    std::size_t used = 0;
    while (used < key.size()) {
        const ssize_t n = ::read(pipe.read.get(), key.bytes().data() + used, key.size() - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return fail_errno(errno, "cannot read the recovery key from kcmd");
        if (n <= 0)
            break;
        used += static_cast<std::size_t>(n);
    }
    while (used > 0 && key.bytes()[used - 1] == '\n')
        --used;
    if (used == 0)
        return fail(Errc::internal, "kcmd handed out no recovery key");
    key.truncate(used);
    return key;
}

Result<void> keep_key(Session& session, const Secret& key, NewFile* file) {
    const std::uint8_t newline = '\n';
    if (file) {
        if (Result<void> written = file->write(key.bytes()); !written)
            return written;
        if (Result<void> written = file->write({&newline, 1}); !written)
            return written;
        return file->keep();
    }
    session.out
        << "\nThe recovery key. It is shown this once: write it down and lock it away.\n\n    "
        << std::flush;
    Result<void> written = write_out(STDOUT_FILENO, key.bytes(), "standard output");
    session.out << "\n\n";
    return written;
}

// The file is made before the slot is, so that a wrong path costs nothing.
Result<void> enrol_recovery(Session& session, const std::string& output) {
    if (session.json && output.empty())
        usage_error("--output", "is required with --json; a recovery key never stands in JSON");
    std::unique_ptr<NewFile> file;
    if (!output.empty()) {
        Result<NewFile> made = NewFile::create(output);
        if (!made)
            return tl::unexpected<Error>(made.error());
        file = std::make_unique<NewFile>(std::move(*made));
    }
    Result<Pipe> pipe = empty_pipe();
    if (!pipe)
        return tl::unexpected<Error>(pipe.error());
    session.arguments["kind"] = "recovery";
    session.pass("output", std::move(pipe->write));
    if (Result<void> enrolled = session.answer("KeystoreEnrol", print_slot); !enrolled)
        return enrolled;
    const Result<Secret> key = drawn_key(*pipe);
    Result<void> kept =
        key ? keep_key(session, *key, file.get()) : tl::unexpected<Error>(key.error());
    if (!kept)
        kept = fail(kept.error().code,
                    kept.error().reason +
                        "; the slot is enrolled, but nobody has its key: dekctl keystore remove");
    return kept;
}

Action enrol(CLI::App& app, Session& session) {
    const auto with = unsealer_options(app, Recovery::made, true);
    const auto output = std::make_shared<std::string>();
    app.add_option("--output", *output, "The recovery key into a new file instead")
        ->type_name("FILE");
    return [&session, with, output]() -> Result<void> {
        if (!output->empty() && !with->recovery)
            usage_error("--output", "is for --recovery");
        if (with->recovery)
            return enrol_recovery(session, *output);
        if (Result<void> passed = pass_unsealer(session, *with, true); !passed)
            return passed;
        return session.answer("KeystoreEnrol", print_slot);
    };
}

Action remove(CLI::App& app, Session& session) {
    number_option(app, session, "slot", "slot", "SLOT", "Number, as keystore show lists it")
        ->required();
    return [&session] { return session.answer("KeystoreRemove", print_keystore); };
}

Action show(CLI::App&, Session& session) {
    return [&session] { return session.answer("KeystoreShow", print_keystore); };
}

Action lock(CLI::App&, Session& session) {
    return [&session] { return session.answer("KeystoreLock", {}); };
}

void backup_file(CLI::App& app, Session& session, const char* help) {
    app.add_option_function<std::string>(
           "file",
           [&session](const std::string& path) {
               session.about = path;
               session.arguments["path"] = absolute(path);
           },
           help)
        ->type_name("FILE")
        ->required();
}

Action backup(CLI::App& app, Session& session) {
    backup_file(app, session, "The copy, written by kcmd; as secret as what unseals it");
    flag_option(app, session, "--force", "force", "Replace a file that is there");
    return [&session] { return session.answer("KeystoreBackup", {}); };
}

Action restore(CLI::App& app, Session& session) {
    backup_file(app, session, "What keystore backup wrote");
    const auto with = unsealer_options(app, Recovery::given, true);
    flag_option(app, session, "--force", "force",
                "Even if keys that only the present keystore has are lost");
    return [&session, with]() -> Result<void> {
        if (Result<void> passed = pass_unsealer(session, *with, false, "unseal_path"); !passed)
            return passed;
        return session.answer("KeystoreRestore", print_restored);
    };
}

Action flush(CLI::App&, Session& session) {
    return [&session] { return session.answer("CacheFlush", print_flushed); };
}

constexpr std::array<Command, 9> commands{{
    {"keystore init", "Make the keystore", init},
    {"keystore enrol", "Add another way to unseal it", enrol},
    {"keystore remove", "Remove one of the ways to unseal it", remove},
    {"keystore show", "Show what unseals it, and the key cache", show},
    {"keystore unlock", "Unseal it", unlock},
    {"keystore lock", "Seal it: no key leaves it any more", lock},
    {"keystore backup", "Copy it into a file", backup},
    {"keystore restore", "Replace it by a backup", restore},
    {"cache flush", "Drop all volume keys that kcmd holds in memory", flush},
}};

} // namespace

std::span<const Command> keystore_commands() {
    return commands;
}

} // namespace dek::ctl
