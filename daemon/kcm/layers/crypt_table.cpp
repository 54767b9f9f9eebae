// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/crypt_table.h"

#include <algorithm>

namespace dek::kcm::layers {
namespace {

std::string place_of(const CryptVolume& v, std::uint64_t first) {
    return v.device + " " + std::to_string(v.offset + first);
}

// dm-crypt counts the sectors of each line from 0 and adds the IV offset, in 512-byte sectors even
// where it then divides by the data unit: so the tweaks are those of the volume's LBAs.
std::string crypt_parameters(const CryptVolume& v, const CryptRange& r) {
    std::string text = "aes-xts-plain64 :" + std::to_string(r.key_size) + ":logon:" + r.key + " " +
                       std::to_string(r.lbas.first) + " " + place_of(v, r.lbas.first);
    if (v.data_unit == 512)
        return text;
    const auto sector = "sector_size:" + std::to_string(v.data_unit);
    return text +
           (v.tweak == DEK_TWEAK_UNIT ? " 2 " + sector + " iv_large_sectors" : " 1 " + sector);
}

bool is_key_name(const std::string& name) {
    // The kernel wants a service before a colon in the name of a logon key.
    const auto colon = name.find(':');
    return colon != std::string::npos && colon > 0 && colon + 1 < name.size() &&
           name.size() < 256 && std::all_of(name.begin(), name.end(), [](char c) {
               return c > ' ' && c <= '~' && c != '\\';
           });
}

Result<void> check_range(const CryptVolume& v, const CryptRange& r, std::uint64_t next) {
    const std::uint64_t unit = v.data_unit / 512;
    if (r.lbas.first < next || r.lbas.count == 0 || r.lbas.first > v.size ||
        r.lbas.count > v.size - r.lbas.first)
        return fail(Errc::invalid_argument, "encrypted ranges overlap or leave the volume at LBA " +
                                                std::to_string(r.lbas.first));
    if (r.lbas.first % unit || r.lbas.count % unit)
        return fail(Errc::invalid_argument,
                    "the encrypted range at LBA " + std::to_string(r.lbas.first) +
                        " cuts a data unit of " + std::to_string(v.data_unit) + " bytes");
    if (r.key_size != 32 && r.key_size != 64)
        return fail(Errc::invalid_argument, "an AES-XTS key has 32 or 64 bytes");
    return is_key_name(r.key) ? Result<void>()
                              : fail(Errc::invalid_argument,
                                     "a key of the kernel's keyring cannot have such a name");
}

Result<void> check_volume(const CryptVolume& v) {
    if (v.data_unit < 512 || v.data_unit > 4096 || (v.data_unit & (v.data_unit - 1)))
        return fail(Errc::invalid_argument,
                    "no volume has data units of " + std::to_string(v.data_unit) + " bytes");
    if (v.size == 0 || v.offset > ~0ull - v.size || v.device.empty() ||
        v.device.find_first_of(" \t\n\\") != std::string::npos)
        return fail(Errc::invalid_argument, "a volume without a size or a device has no table");
    return {};
}

Result<void> check_reserved(const CryptVolume& v) {
    if (v.reserved.count == 0)
        return {};
    const auto cuts = [&](const CryptRange& r) {
        return r.lbas.first < v.reserved.first + v.reserved.count &&
               v.reserved.first < r.lbas.first + r.lbas.count;
    };
    if (v.reserved.first > v.size || v.reserved.count > v.size - v.reserved.first ||
        v.reserved_device.empty() || std::any_of(v.ranges.begin(), v.ranges.end(), cuts))
        return fail(Errc::invalid_argument, "the reserved place at LBA " +
                                                std::to_string(v.reserved.first) +
                                                " is encrypted, or not in the volume");
    return {};
}

} // namespace

Result<std::vector<TableLine>> crypt_table(const CryptVolume& v) {
    if (auto r = check_volume(v); !r)
        return tl::unexpected(r.error());
    if (auto r = check_reserved(v); !r)
        return tl::unexpected(r.error());
    std::vector<TableLine> table;
    std::uint64_t next = 0;
    const auto plain = [&](std::uint64_t end) {
        if (end > next)
            table.push_back({next, end - next, "linear", place_of(v, next)});
        next = std::max(next, end);
    };
    const std::uint64_t hole_end = v.reserved.first + v.reserved.count;
    const auto plain_up_to = [&](std::uint64_t end) {
        if (v.reserved.count && next <= v.reserved.first && hole_end <= end) {
            plain(v.reserved.first);
            table.push_back({next, v.reserved.count, "linear", v.reserved_device + " 0"});
            next = hole_end;
        }
        plain(end);
    };
    for (const auto& range : v.ranges) {
        if (auto r = check_range(v, range, next); !r)
            return tl::unexpected(r.error());
        plain_up_to(range.lbas.first);
        table.push_back({range.lbas.first, range.lbas.count, "crypt", crypt_parameters(v, range)});
        next = range.lbas.first + range.lbas.count;
    }
    plain_up_to(v.size);
    return table;
}

} // namespace dek::kcm::layers
