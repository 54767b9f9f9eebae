// SPDX-License-Identifier: Apache-2.0
// What kcmd would find, for the suites to compare:
//   vm_stack_dump NODE        the stack beneath a device, a line for each, the topmost first
//   vm_stack_dump watch TIME  a line for each time that kcmd would be told of changed block devices
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "kcm/block_watch.h"
#include "kcm/control_file.h"
#include "kcm/live_stack.h"

using namespace dek::kcm;

namespace {

const char* state_text(layers::PathState state) {
    static const char* const text[] = {"", " standby", " failed"};
    return text[static_cast<int>(state)];
}

// "KIND NAME SIZE [WORD]... [| LEG OFFSET [FIRST COUNT] [STATE]]... [: OBSTACLE]"
void print(const layers::Stack& stack, const layers::Device& d) {
    std::printf("%s %s %llu", layers::kind_text(d.kind), d.name.c_str(),
                static_cast<unsigned long long>(d.size));
    if (d.read_only)
        std::printf(" read-only");
    if (d.chunk)
        std::printf(" chunk %u", d.chunk);
    if (!d.uuid.empty())
        std::printf(" %s unit %u engines %u", d.uuid.c_str(), d.endpoint.data_unit,
                    d.endpoint.engines);
    for (const auto& leg : d.legs) {
        std::printf(" | %s %llu", stack[leg.device].name.c_str(),
                    static_cast<unsigned long long>(leg.offset));
        if (d.kind == layers::Kind::linear)
            std::printf(" %llu %llu", static_cast<unsigned long long>(leg.first),
                        static_cast<unsigned long long>(leg.count));
        std::printf("%s", state_text(leg.state));
    }
    if (!d.obstacle.empty())
        std::printf(" : %s", d.obstacle.c_str());
    std::printf("\n");
}

int dump(const char* node) {
    Shim shim(std::make_unique<ControlFile>("/dev/dek-control", ControlFile::kernel_hint),
              std::chrono::milliseconds(100));
    const auto stack = discover(node, shim);
    if (!stack) {
        std::printf("%s: %s\n", dek::errc_name(stack.error().code), stack.error().reason.c_str());
        return 1;
    }
    for (auto d = stack->devices.rbegin(); d != stack->devices.rend(); ++d)
        print(*stack, *d);
    return 0;
}

int watch(double seconds) {
    const BlockWatch watch([] {
        std::printf("changed\n");
        std::fflush(stdout);
    });
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::strcmp(argv[1], "watch") == 0)
        return watch(std::atof(argv[2]));
    if (argc == 2)
        return dump(argv[1]);
    std::fprintf(stderr, "usage: vm_stack_dump NODE | watch SECONDS\n");
    return 2;
}
