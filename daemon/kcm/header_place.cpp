// SPDX-License-Identifier: Apache-2.0
#include "kcm/header_place.h"

#include <algorithm>

#include "kcm/device_lbas.h"
#include "kcm/dm_device.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::milliseconds patience{2000};

std::string dm_uuid(const Uuid& volume) {
    return "DEKHDR-" + volume::uuid_text(volume);
}

std::string name_of(const Uuid& volume) {
    return "dek.hdr." + volume::uuid_text(volume);
}

std::string place_of(const std::string& beneath, const volume::Header& h) {
    return " " + beneath + " " + std::to_string(h.offset + header_units(h).first) + " " +
           std::to_string(h.data_unit);
}

bool lies_on(const DmInfo& info, const std::string& beneath, const volume::Header& h) {
    const auto table = dm_table(info.name);
    return table && table->size() == 1 &&
           table->front().parameters.find(place_of(beneath, h)) != std::string::npos;
}

} // namespace

Result<std::string> header_place(const volume::Header& h, const std::string& beneath,
                                 bool read_only) {
    auto there = dm_find(dm_uuid(h.uuid));
    if (there && *there && !lies_on(**there, beneath, h)) { // of an earlier attach
        if (auto r = remove_header_place(h.uuid); !r)
            return tl::unexpected(r.error());
        there = dm_find(dm_uuid(h.uuid));
    }
    if (there && !*there) {
        const dek_range units = header_units(h);
        DmCreate create;
        create.name = name_of(h.uuid);
        create.uuid = dm_uuid(h.uuid);
        create.table = {{0, units.count, "dek",
                         volume::uuid_text(volume::random_uuid()) + place_of(beneath, h)}};
        create.hidden = true;
        create.read_only = read_only;
        if (auto made = dm_create(create); !made)
            return tl::unexpected(made.error());
        there = dm_find(dm_uuid(h.uuid));
    }
    if (!there)
        return tl::unexpected(there.error());
    if (!*there)
        return fail(Errc::internal, "the device of a header's place did not appear");
    return (*there)->number;
}

bool is_header_place(dev_t device) {
    const auto info = dm_find_number(device);
    return info && *info && (*info)->uuid.rfind("DEKHDR-", 0) == 0;
}

Result<void> remove_header_place(const Uuid& volume) {
    const auto there = dm_find(dm_uuid(volume));
    if (!there || !*there)
        return {};
    return dm_remove((*there)->name, patience);
}

} // namespace dek::kcm
