// SPDX-License-Identifier: Apache-2.0
#include "kcm/volume.h"

#include <algorithm>

#include "kcm/kernel_table.h"

namespace dek::kcm {

const char* state_name(VolumeState state) {
    switch (state) {
    case VolumeState::up:
        return "up";
    case VolumeState::waiting_for_keys:
        return "waiting-for-keys";
    case VolumeState::fenced:
        return "fenced";
    case VolumeState::down:
        return "down";
    }
    return "down";
}

const char* wish_name(Wish wish) {
    return wish == Wish::software ? "software" : "auto";
}

NodeSpec Volume::node() const {
    NodeSpec spec;
    spec.uuid = header.uuid;
    spec.name = name;
    spec.device = device;
    spec.offset = header.offset;
    spec.size = header.size;
    spec.data_unit = header.data_unit;
    spec.logical_block = header.logical_block;
    spec.read_only = read_only;
    spec.lines = lines_by(encryptor, header, read_only);
    return spec;
}

bool Volume::uses_key(const std::string& id) const {
    const bool recorded =
        std::find(recorded_keys.begin(), recorded_keys.end(), id) != recorded_keys.end();
    return (recorded && !verified) || std::any_of(header.keys.begin(), header.keys.end(),
                                                  [&](const auto& key) { return key.id == id; });
}

void Registry::publish(Volume volume) {
    auto next = std::make_shared<const Volume>(std::move(volume));
    const std::lock_guard lock(mutex_);
    volumes_[next->name] = next;
}

void Registry::withdraw(const std::string& name) {
    const std::lock_guard lock(mutex_);
    volumes_.erase(name);
}

VolumePtr Registry::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = volumes_.find(name);
    return found == volumes_.end() ? nullptr : found->second;
}

VolumePtr Registry::with_uuid(const Uuid& uuid) const {
    for (const auto& volume : all())
        if (volume->header.uuid == uuid)
            return volume;
    return nullptr;
}

VolumePtr Registry::on_device(const std::string& identity) const {
    for (const auto& volume : all())
        if (volume->identity == identity)
            return volume;
    return nullptr;
}

std::vector<VolumePtr> Registry::all() const {
    const std::lock_guard lock(mutex_);
    std::vector<VolumePtr> list;
    for (const auto& [name, volume] : volumes_)
        list.push_back(volume);
    return list;
}

std::vector<std::string> Registry::using_key(const std::string& id) const {
    std::vector<std::string> names;
    for (const auto& volume : all())
        if (volume->uses_key(id))
            names.push_back(volume->name);
    return names;
}

void Registry::publish_guards(std::map<Uuid, LegGuard> guards) {
    const std::lock_guard lock(mutex_);
    guards_ = std::move(guards);
}

std::map<Uuid, LegGuard> Registry::guards() const {
    const std::lock_guard lock(mutex_);
    return guards_;
}

} // namespace dek::kcm
