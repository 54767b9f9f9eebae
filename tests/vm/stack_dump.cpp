// SPDX-License-Identifier: Apache-2.0
// What kcmd would find, for the suites to compare:
//   vm_stack_dump NODE        the stack beneath a device, a line for each, the topmost first
//   vm_stack_dump watch TIME  a line for each time that kcmd would be told of changed block devices
//   vm_stack_dump handshake NODE VERSION [NEEDS]
//                             what the layers answer to a Handshake, where they need version NEEDS
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "kcm/block_watch.h"
#include "kcm/control_file.h"
#include "kcm/live_stack.h"
#include "kcm/shim_port.h"
#include "volume/header.h"

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

Shim kernel_shim() {
    return Shim(std::make_unique<ControlFile>("/dev/dek-control", ControlFile::kernel_hint),
                std::chrono::milliseconds(100));
}

int complain(const dek::Error& e) {
    std::printf("%s: %s\n", dek::errc_name(e.code), e.reason.c_str());
    return 1;
}

int dump(const char* node) {
    Shim shim = kernel_shim();
    const auto stack = discover(node, shim);
    if (!stack)
        return complain(stack.error());
    for (auto d = stack->devices.rbegin(); d != stack->devices.rend(); ++d)
        print(*stack, *d);
    return 0;
}

int handshake(const char* node, std::uint32_t version, std::uint32_t needs) {
    Shim shim = kernel_shim();
    auto stack = discover(node, shim);
    if (!stack)
        return complain(stack.error());
    auto tree = layers::Tree::make(
        std::move(*stack),
        [&](const layers::Device& leaf) -> std::shared_ptr<layers::Port> {
            const auto uuid = dek::volume::uuid_of(leaf.uuid);
            return uuid ? std::make_shared<ShimPort>(shim, *uuid) : nullptr;
        },
        layers::Options{.needs_version = needs});
    if (!tree)
        return complain(tree.error());
    std::array<std::uint8_t, DEK_BLOCK_SIZE> sent{};
    const std::array<std::uint8_t, DEK_RANDOM1_SIZE + DEK_RANDOM2_SIZE> random{1, 2, 3};
    dek_block_begin(sent.data(), DEK_OP_HANDSHAKE, 0, 1);
    dek_block_handshake(sent.data(), DEK_CLASS_EHBA, random.data());
    dek_put_le32(&reinterpret_cast<dek_wire_header*>(sent.data())->version, version);
    dek_block_seal(sent.data());
    auto got = sent;
    tree->answer(got);
    dek_command answer;
    dek_block_decode(got.data(), &answer);
    if (dek_handshake_affirmative(sent.data(), got.data()))
        std::printf("version %u\n", answer.version);
    else
        std::printf("%s: %s\n", dek_status_text(static_cast<dek_status>(answer.status)),
                    layers::sentence_of(tree->take_remarks()).c_str());
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
    if (argc >= 4 && std::strcmp(argv[1], "handshake") == 0)
        return handshake(argv[2], std::atoi(argv[3]), argc > 4 ? std::atoi(argv[4]) : 1);
    if (argc == 2)
        return dump(argv[1]);
    std::fprintf(stderr,
                 "usage: vm_stack_dump NODE | handshake NODE VERSION [NEEDS] | watch SECONDS\n");
    return 2;
}
