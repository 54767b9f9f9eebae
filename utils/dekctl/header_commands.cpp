// SPDX-License-Identifier: Apache-2.0
// dekctl header ...
#include <array>
#include <cerrno>
#include <memory>

#include <fcntl.h>

#include "header_view.h"
#include "options.h"
#include "secret_source.h"

namespace dek::ctl {
namespace {

std::shared_ptr<std::string> file_argument(CLI::App& app, const char* help) {
    auto file = std::make_shared<std::string>();
    app.add_option("file", *file, help)->type_name("FILE")->required();
    return file;
}

Action show(CLI::App& app, Session& session) {
    device_argument(app, session);
    header_place(app, session);
    return [&session] { return session.answer("HeaderShow", print_header); };
}

Result<void> backup_into(Session& session, const std::string& path) {
    Result<NewFile> file = NewFile::create(path);
    if (!file)
        return tl::unexpected<Error>(file.error());
    Result<Fd> descriptor = file->duplicate();
    if (!descriptor)
        return tl::unexpected<Error>(descriptor.error());
    session.pass("file", std::move(*descriptor));
    if (Result<void> done = session.answer("HeaderBackup", print_header_copy); !done)
        return done;
    return file->keep();
}

Action backup(CLI::App& app, Session& session) {
    device_argument(app, session);
    const auto file = file_argument(app, "A new file; holds no key");
    header_place(app, session);
    return [&session, file] { return backup_into(session, *file); };
}

Action restore(CLI::App& app, Session& session) {
    device_argument(app, session);
    const auto file = file_argument(app, "What header backup wrote");
    header_place(app, session);
    flag_option(app, session, "--force", "force",
                "Even over the header of another volume, or a newer one");
    return [&session, file]() -> Result<void> {
        Fd descriptor(::open(file->c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
        if (!descriptor)
            return fail_errno(errno, "cannot read " + *file);
        session.pass("file", std::move(descriptor));
        return session.answer("HeaderRestore", print_header_copy);
    };
}

constexpr std::array<Command, 3> commands{{
    {"header show", "Show the header on a device", show},
    {"header backup", "Copy the header into a file", backup},
    {"header restore", "Put a header back from its backup", restore},
}};

} // namespace

std::span<const Command> header_commands() {
    return commands;
}

} // namespace dek::ctl
