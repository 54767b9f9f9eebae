// SPDX-License-Identifier: Apache-2.0
#include "kcm/kernel_table.h"

#include <algorithm>

#include "kcm/device_lbas.h"
#include "kcm/header_place.h"
#include "kcm/layers/crypt_table.h"

namespace dek::kcm {
namespace {

// By their place in the header: IDs may have blanks.
std::string key_name(const volume::Header& h, std::size_t index) {
    return "dekstack:" + volume::uuid_text(h.uuid) + "-" + std::to_string(index);
}

std::vector<layers::CryptRange> crypt_ranges(const volume::Header& h) {
    std::vector<layers::CryptRange> ranges;
    for (const auto& r : h.ranges)
        ranges.push_back({r.lbas, key_name(h, r.key), h.keys[r.key].bits / 8});
    return ranges;
}

Result<std::vector<layers::TableLine>> lines_of(layers::Encryptor who, const volume::Header& h,
                                                bool read_only, const std::string& beneath,
                                                std::uint64_t lbas) {
    layers::CryptVolume v;
    v.size = lbas;
    v.device = beneath;
    v.offset = h.offset;
    v.data_unit = h.data_unit;
    v.tweak = static_cast<dek_tweak_rule>(h.tweak);
    if (who == layers::Encryptor::software)
        v.ranges = crypt_ranges(h);
    v.reserved = header_units(h);
    if (v.reserved.count > 0) {
        auto place = header_place(h, beneath, read_only);
        if (!place)
            return tl::unexpected(place.error());
        v.reserved_device = *place;
    }
    return layers::crypt_table(v);
}

} // namespace

NodeSpec::Lines lines_by(layers::Encryptor who, const volume::Header& header, bool read_only) {
    if (who == layers::Encryptor::top)
        return {};
    return [who, header, read_only](const std::string& beneath, std::uint64_t lbas) {
        return lines_of(who, header, read_only, beneath, lbas);
    };
}

Result<void> offer_keys(KernelKeys& ring, const volume::Header& header, const KeyFinder& find_key) {
    for (std::size_t i = 0; i < header.keys.size(); i++) {
        auto key = find_key(header.keys[i]);
        if (!key)
            return tl::unexpected(key.error());
        if (auto r = ring.add(key_name(header, i), *key); !r)
            return r;
    }
    return {};
}

// Of linear alone nobody can tell whether there was nothing to encrypt; it is the same then.
Result<layers::Encryptor> encryptor_of(const std::vector<layers::TableLine>& table) {
    const auto has = [&](const char* type) {
        return std::any_of(table.begin(), table.end(),
                           [&](const auto& line) { return line.type == type; });
    };
    const auto strange = std::any_of(table.begin(), table.end(), [](const auto& line) {
        return line.type != "dek" && line.type != "crypt" && line.type != "linear";
    });
    if (table.empty() || strange || (has("dek") && table.size() > 1))
        return fail(Errc::internal, "a volume's device has a table that is not kcmd's");
    if (has("dek"))
        return layers::Encryptor::top;
    return has("crypt") ? layers::Encryptor::software : layers::Encryptor::endpoints;
}

} // namespace dek::kcm
