// SPDX-License-Identifier: Apache-2.0
#include "kcm/pool_keeper.h"

#include "base/log.h"

namespace dek::kcm {
namespace {

constexpr const char* prefix = "dek.old.";
constexpr std::chrono::milliseconds patience{2000};

// An endpoint belongs to one device, so this one has another.
layers::TableLine with_endpoint_of_its_own(layers::TableLine line) {
    const auto uuid = volume::uuid_text(volume::random_uuid());
    line.parameters.replace(0, line.parameters.find(' '), uuid);
    return line;
}

} // namespace

PoolKeeper::PoolKeeper(const Uuid& volume, const DmTable& live)
    : name_(prefix + volume::uuid_text(volume)) {
    DmTable table;
    for (const auto& line : live)
        if (line.type == "dek" || (line.type == "crypt" && table.empty()))
            table = {line.type == "dek" ? with_endpoint_of_its_own(line) : line};
    if (table.empty()) // linear: its pools are everybody's
        return;
    table.front().first = 0;
    (void)dm_remove(name_, patience); // a killed controller's
    DmCreate create;
    create.name = name_;
    create.uuid = "DEKOLD-" + volume::uuid_text(volume);
    create.hidden = true;
    auto made = dm_create(create);
    if (made)
        made = dm_load(name_, table, false);
    if (!made)
        log(Level::info, "pools-not-kept", {{"why", made.error().reason}});
}

PoolKeeper::~PoolKeeper() {
    (void)dm_remove(name_, patience);
}

void drop_pool_keepers() {
    const auto all = dm_list();
    if (!all) // no device-mapper
        return;
    for (const auto& info : *all)
        if (info.name.rfind(prefix, 0) == 0)
            (void)dm_remove(info.name, patience);
}

} // namespace dek::kcm
