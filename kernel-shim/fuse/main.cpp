// SPDX-License-Identifier: Apache-2.0
// dek-shimd: the userspace shim. One program, two processes: the holder and its worker.
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "base/command_line.h"
#include "holder.h"
#include "settings.h"
#include "volume.h"
#include "worker.h"

namespace {

void declare(CLI::App& app, dek::shim::Settings& s) {
    app.set_version_flag("--version", "dek-shimd " DEK_VERSION);
    app.add_option("--dir", s.dir, "where the volumes and the control file appear")
        ->capture_default_str();
    app.add_option("--threads", s.threads, "threads that serve I/O")
        ->check(CLI::Range(1u, dek::shim::kMaxLanes))
        ->capture_default_str();
    dek::add_choice<std::string>(app, "--engine", s.engine,
                                 {{"auto", "auto"}, {"vaes512", "vaes512"}, {"openssl", "openssl"}},
                                 "what encrypts; default auto");
    app.add_option("--recover-ms", s.recover_ms,
                   "how long encrypted I/O waits for its keys after the worker was replaced")
        ->capture_default_str();
    app.add_flag("--fd-store", s.fd_store,
                 "systemd keeps the descriptors: volumes outlive a restart of this service");
    app.add_flag("!--no-resend", s.resend,
                 "do without the kernel's FUSE_NOTIFY_RESEND, as on kernels before 6.9");
    app.add_option("--worker", s.worker)->group(""); // internal: the socket to the holder
}

} // namespace

int main(int argc, char** argv) {
    dek::shim::Settings settings;
    CLI::App app{
        "The userspace shim of dekstack: encrypts volumes by LBA range and shows them as files",
        "dek-shimd"};
    declare(app, settings);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return dek::end_of_usage(app, e);
    }
    if (::geteuid() != 0) {
        std::cerr << "dek-shimd: it has to run as root\n";
        return 1;
    }
    ::umask(077);
    std::error_code error;
    settings.dir = std::filesystem::weakly_canonical(settings.dir, error).string();
    if (error) {
        std::cerr << "dek-shimd: --dir: " << error.message() << '\n';
        return 2;
    }
    if (settings.worker >= 0)
        return dek::shim::run_worker(settings);
    return dek::shim::run_holder(settings, {argv, argv + argc});
}
