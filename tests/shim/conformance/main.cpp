// SPDX-License-Identifier: Apache-2.0
// The conformance suite of the ioctl interface: whatever shim passes it, controllers can work with.
//   shim_conformance --shim fuse --program dek-shimd --slowfs slowfs [Catch2's own options]
//   shim_conformance --shim kernel [Catch2's own options]
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <iostream>

#include <unistd.h>

#include "stage.h"

namespace conformance {
namespace {
std::unique_ptr<Stage> the_stage;
}
Stage& stage() {
    return *the_stage;
}
} // namespace conformance

int main(int argc, char** argv) {
    Catch::Session session;
    std::string kind = "fuse", program, slowfs;
    using namespace Catch::clara;
    session.cli(session.cli() | Opt(kind, "kind")["--shim"]("which shim: fuse, kernel") |
                Opt(program, "path")["--program"]("the shim's program") |
                Opt(slowfs, "path")["--slowfs"]("the slow disk of the tests"));
    if (const int status = session.applyCommandLine(argc, argv))
        return status;
    if (::geteuid() != 0) {
        std::cerr << "shim_conformance: the ioctl interface is root's; run as root\n";
        return 1;
    }
    try {
        conformance::the_stage = conformance::make_stage(kind, program, slowfs);
    } catch (const std::exception& e) {
        std::cerr << "shim_conformance: " << e.what() << '\n';
        return 1;
    }
    const int status = session.run();
    conformance::the_stage.reset();
    return status;
}
