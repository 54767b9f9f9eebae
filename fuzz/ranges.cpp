// SPDX-License-Identifier: Apache-2.0
// Any text as the command line's ranges, for a device of any size.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <dek/lunmap.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::uint64_t device = 0;
    if (size < sizeof(device))
        return 0;
    std::memcpy(&device, data, sizeof(device));
    std::string_view text(reinterpret_cast<const char*>(data) + sizeof(device),
                          size - sizeof(device));
    auto map = dek::LunMap::parse(text, device);
    if (!map) {
        if (map.error().empty() || map.error().find('\n') != std::string::npos)
            std::abort();
        return 0;
    }
    if (map->fits(device, 0) != DEK_OK || dek::LunMap::parse(map->to_string(), device) != map)
        std::abort();
    return 0;
}
