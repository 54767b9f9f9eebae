// SPDX-License-Identifier: Apache-2.0
#include "kcm/stand_still.h"

#include <algorithm>

#include "base/log.h"
#include "kcm/dm_device.h"

namespace dek::kcm {

std::string dm_name_of(const layers::Device& device) {
    return device.name.substr(device.name.rfind('/') + 1);
}

StandStill::StandStill(std::string volume, const layers::Stack& stack)
    : volume_(std::move(volume)) {
    for (auto d = stack.devices.rbegin(); d != stack.devices.rend(); ++d)
        if (d->kind == layers::Kind::mirror)
            mirrors_.push_back(dm_name_of(*d));
}

Result<void> StandStill::begin() {
    auto done = dm_suspend(volume_, Freeze::no);
    if (!done)
        return done;
    for (const auto& mirror : mirrors_) {
        const auto info = dm_find_name(mirror);
        if (!info || !*info)
            continue; // one line of a table with several
        if ((*info)->inactive)
            done = fail(Errc::busy, "somebody is changing mirror " + mirror);
        else
            done = dm_suspend(mirror, Freeze::no);
        if (!done)
            break;
    }
    if (!done)
        if (auto r = end(); !r)
            log_error("volume-stands-still", r.error(), {{"device", volume_}});
    return done;
}

Result<void> StandStill::resume_mirrors() {
    for (auto mirror = mirrors_.rbegin(); mirror != mirrors_.rend(); ++mirror) {
        const auto info = dm_find_name(*mirror);
        if (!info || !*info || !(*info)->suspended)
            continue;
        if (auto r = dm_resume(*mirror, false, Freeze::no); !r)
            return r;
    }
    return {};
}

Result<void> StandStill::end() {
    if (auto r = resume_mirrors(); !r)
        return r;
    return dm_resume(volume_, false, Freeze::no);
}

} // namespace dek::kcm
