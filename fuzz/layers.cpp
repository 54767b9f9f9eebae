// SPDX-License-Identifier: Apache-2.0
// Any bytes as device-mapper tables: read, made a stack of, and LBAs placed through what comes of
// it. Devices are separated by a NUL; the first byte of each says what else is said of it.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kcm/layers/decision.h"
#include "kcm/layers/discovery.h"
#include "kcm/layers/target.h"

namespace {

using namespace dek::kcm::layers;

void demand(bool held) {
    if (!held)
        std::abort();
}

// "253:0", "253:1" and so on, in the order they come.
BlockDevice device_of(const std::string& text, std::size_t index) {
    BlockDevice d;
    d.number = "253:" + std::to_string(index);
    d.name = d.number;
    const auto flags = static_cast<unsigned char>(text[0]);
    d.read_only = flags & 1;
    d.size = 4096u << (flags >> 4);
    for (std::size_t i = 0; i < 8; i++)
        d.depends.push_back("253:" + std::to_string(i));
    if (flags & 2)
        d.partition = BlockDevice::Partition{"253:" + std::to_string(flags >> 5), flags};
    if (auto table = parse_table(std::string_view(text).substr(1))) {
        d.table = std::move(*table);
        for (const auto& line : d.table)
            demand(parse_table("0 " + to_string(line).substr(to_string(line).find(' ') + 1))
                       .has_value());
        d.size = d.table.back().first + d.table.back().count;
    } else if (flags & 4) {
        d.path_status = text.substr(1);
    }
    return d;
}

Description description_of(std::string text) {
    Description d;
    for (std::size_t i = 0; !text.empty() && i < 8; i++) {
        const auto end = std::min(text.find('\0', 1), text.size());
        d.devices.push_back(device_of(text.substr(0, end), i));
        text.erase(0, end + 1);
    }
    d.endpoints["known"] = {DEK_ENGINE_CPU, DEK_OK};
    return d;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    parse_path_states(text);
    const auto description = description_of(text);
    if (description.devices.empty())
        return 0;
    const auto stack = build_stack(description, description.devices.back().number);
    if (!stack) {
        demand(!stack.error().reason.empty());
        return 0;
    }
    demand(validate(*stack).has_value());
    const auto lbas = (*stack)[stack->top].size;
    const auto map = dek::LunMap::from({{lbas / 4 / 8 * 8, (lbas / 2 + 8) / 8 * 8}});
    if (!map || map->fits(lbas, 0) != DEK_OK)
        return 0;
    const Decision d =
        decide(*stack, {*map, {4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0}, Policy::prefer, {}});
    demand(!d.why.empty() && !d.account.empty());
    // Nothing is decided to be encrypted beneath while a way leads past every fence.
    demand(d.who != Encryptor::endpoints || find_unfenced(*stack, stack->top, *map) == SIZE_MAX);
    return 0;
}
