// SPDX-License-Identifier: Apache-2.0
// vm_fuzz nth | fuzz SECONDS SEED: what fault injection and fuzzing need inside a virtual machine.
#include "fuzz.h"
#include "nth.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

int main(int argc, char** argv) {
    try {
        const std::string what = argc > 1 ? argv[1] : "";
        if (what == "nth" && argc == 2)
            return fail_every_allocation() ? 0 : 1;
        if (what == "fuzz" && argc == 4)
            return fuzz(static_cast<unsigned>(std::stoul(argv[2])), std::stoull(argv[3])) ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_fuzz: %s\n", e.what());
        return 1;
    }
    std::fputs("usage: vm_fuzz nth | fuzz SECONDS SEED\n", stderr);
    return 2;
}
