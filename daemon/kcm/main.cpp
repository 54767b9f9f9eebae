// SPDX-License-Identifier: Apache-2.0
// kcmd: the key controller.
#include <csignal>
#include <cstdio>

#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "kcm/instance.h"
#include "kcm/leg_boot.h"
#include "kcm/server.h"

namespace {

int give_up(const dek::Error& error) {
    std::fprintf(stderr, "kcmd: %s\n", error.reason.c_str());
    return 1;
}

// The event loop takes these; threads made from here on inherit the mask.
void block_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

} // namespace

int main(int argc, char** argv) {
    dek::harden_process();
    auto options = dek::kcm::parse_options(argc, argv);
    if (!options)
        return options.error().exit_code;
    if (::geteuid() != 0)
        return give_up({dek::Errc::permission, "it has to run as root"});
    dek::set_log_threshold(options->log_level);
    if (!options->endpoint_of.empty())
        return dek::kcm::tell_endpoint(*options);
    block_signals();
    if (options->endpoints_only) {
        auto made = dek::kcm::make_endpoints(*options);
        return made ? 0 : give_up(made.error());
    }
    auto instance = dek::kcm::Instance::take(*options);
    if (!instance)
        return give_up(instance.error());
    dek::kcm::Server server(*options);
    if (auto started = server.start(); !started)
        return give_up(started.error());
    return server.run();
}
