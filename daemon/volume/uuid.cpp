// SPDX-License-Identifier: Apache-2.0
// UUIDs as bytes in the order of their text.
#include "volume/header.h"

#include <cstdlib>

#include <openssl/rand.h>

#include "volume/hex.h"

namespace dek::volume {

Uuid random_uuid() {
    Uuid uuid{};
    if (RAND_bytes(uuid.data(), static_cast<int>(uuid.size())) != 1)
        std::abort(); // without random numbers there is nothing this program may go on to do
    uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);
    uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
    return uuid;
}

std::string uuid_text(const Uuid& uuid) {
    std::string text = hex_text(uuid);
    for (const std::size_t at : {20, 16, 12, 8})
        text.insert(at, 1, '-');
    return text;
}

Result<Uuid> uuid_of(std::string_view text) {
    Uuid uuid{};
    std::string digits(text);
    if (digits.size() == 36)
        for (const std::size_t at : {23, 18, 13, 8})
            if (digits[at] == '-')
                digits.erase(at, 1);
    if (text.size() != 36 || !hex_bytes(digits, uuid))
        return fail(Errc::invalid_argument, "this is no UUID of the form "
                                            "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in lower case");
    return uuid;
}

} // namespace dek::volume
