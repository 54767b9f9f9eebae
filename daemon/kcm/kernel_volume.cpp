// SPDX-License-Identifier: Apache-2.0
#include "kcm/kernel_volume.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "kcm/device_use.h"
#include "kcm/header_place.h"
#include "kcm/loop.h"

namespace dek::kcm {
namespace {

std::string dm_uuid(const NodeSpec& spec) {
    return "DEK-" + volume::uuid_text(spec.uuid);
}

// No volume's: theirs begin with "dek-", and a UUID follows no dot.
std::string hidden_name(const NodeSpec& spec) {
    return "dek.new." + volume::uuid_text(spec.uuid);
}

std::string shown_name(const NodeSpec& spec) {
    return "dek-" + spec.name;
}

bool is_file(const std::string& path) {
    struct stat found;
    return ::stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode);
}

Result<dev_t> block_number(const std::string& path) {
    struct stat found;
    if (::stat(path.c_str(), &found) != 0)
        return fail_errno(errno, path);
    if (!S_ISBLK(found.st_mode))
        return fail(Errc::invalid_argument, path + " is not a block device");
    return found.st_rdev;
}

// UUID DEVICE OFFSET UNIT, as the target's constructor documents it. By number: paths are the
// kernel's to look up, and may mean something else to it.
layers::TableLine target_of(const NodeSpec& spec, dev_t beneath, std::uint64_t lbas) {
    return layers::TableLine{0, lbas, "dek",
                             volume::uuid_text(spec.uuid) + " " + number_text(beneath) + " " +
                                 std::to_string(spec.offset) + " " +
                                 std::to_string(spec.data_unit) + " 1 fence:eio"};
}

Result<DmTable> table_of(const NodeSpec& spec, dev_t beneath, std::uint64_t lbas) {
    if (spec.lines)
        return spec.lines(number_text(beneath), lbas);
    return DmTable{target_of(spec, beneath, lbas)};
}

// A volume may have the device of its header's place beneath it, too, which is made of the same.
Result<dev_t> device_beneath(const DmInfo& info) {
    auto beneath = dm_beneath(info.name);
    if (!beneath)
        return tl::unexpected(beneath.error());
    std::erase_if(*beneath, is_header_place);
    if (beneath->size() != 1)
        return fail(Errc::internal, "device " + info.name + " has no table of ours");
    return beneath->front();
}

Result<void> give_table(const NodeSpec& spec, const DmInfo& info, std::uint64_t lbas) {
    auto beneath = device_beneath(info);
    // Made, but never given a table.
    if (!beneath && !info.live && !is_file(spec.device))
        beneath = block_number(spec.device);
    if (!beneath)
        return tl::unexpected(beneath.error());
    auto table = table_of(spec, *beneath, lbas);
    if (!table)
        return tl::unexpected(table.error());
    return dm_replace(info.name, *table, spec.read_only, info.name == hidden_name(spec));
}

std::string who_uses(const std::string& node) {
    auto device = open_device(node, Access::read);
    const auto unused = device ? check_unused(*device) : Result<void>();
    return unused ? node + " is open" : unused.error().reason;
}

} // namespace

Result<DmInfo> find_volume_device(const NodeSpec& spec) {
    auto info = dm_find(dm_uuid(spec));
    if (!info)
        return tl::unexpected(info.error());
    if (!*info)
        return fail(Errc::not_found, "the device of volume " + spec.name + " is gone");
    return **info;
}

Result<void> load_volume_table(const NodeSpec& spec) {
    auto info = find_volume_device(spec);
    if (!info)
        return tl::unexpected(info.error());
    auto beneath = device_beneath(*info);
    if (!beneath)
        return tl::unexpected(beneath.error());
    auto table = table_of(spec, *beneath, spec.size);
    return table ? dm_load(info->name, *table, spec.read_only) : tl::unexpected(table.error());
}

Result<void> KernelVolumes::create(Shim&, const NodeSpec& spec) {
    Fd held; // from here on the mapped device holds it
    std::string beneath = spec.device;
    if (is_file(spec.device)) {
        auto loop = attach_loop(spec.device, spec.logical_block, spec.read_only, &held);
        if (!loop)
            return tl::unexpected(loop.error());
        beneath = *loop;
    }
    auto number = block_number(beneath);
    if (!number)
        return tl::unexpected(number.error());
    auto table = table_of(spec, *number, spec.size);
    if (!table)
        return tl::unexpected(table.error());
    return dm_create({hidden_name(spec), dm_uuid(spec), std::move(*table), spec.read_only, true});
}

Result<Fd> KernelVolumes::open(const NodeSpec& spec) {
    auto info = find_volume_device(spec);
    if (!info)
        return tl::unexpected(info.error());
    Fd fd(::open(info->node.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, info->node + " cannot be opened");
    return fd;
}

std::optional<std::string> KernelVolumes::exposed(const NodeSpec& spec) {
    const auto info = dm_find(dm_uuid(spec));
    if (!info || !*info || (*info)->name != shown_name(spec))
        return std::nullopt;
    return (*info)->node;
}

Result<std::string> KernelVolumes::expose(const NodeSpec& spec) {
    if (auto there = exposed(spec))
        return *there;
    if (auto r = dm_rename(hidden_name(spec), shown_name(spec)); !r)
        return tl::unexpected(r.error());
    auto there = exposed(spec);
    if (!there)
        return fail(Errc::internal, "the device of volume " + spec.name + " did not appear");
    return *there;
}

Result<void> KernelVolumes::conceal(const NodeSpec& spec, std::chrono::milliseconds patience) {
    const auto info = dm_find(dm_uuid(spec));
    if (!info || !*info) // where there is no device-mapper, there is no device
        return remove_header_place(spec.uuid);
    auto done = dm_remove((*info)->name, patience);
    if (!done && done.error().code == Errc::busy)
        return fail(Errc::busy, who_uses((*info)->node));
    return done ? remove_header_place(spec.uuid) : done;
}

// The endpoint goes with the last table that names it, and the loop device with that, once nobody
// (udev, say) looks at it any more.
Result<void> KernelVolumes::remove(Shim&, const NodeSpec& spec,
                                   std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    if (auto r = conceal(spec, patience); !r)
        return r;
    for (auto loop = find_loop(spec.device); loop && held_loop_file(*loop);
         loop = find_loop(spec.device)) {
        if (std::chrono::steady_clock::now() >= until)
            break;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return {};
}

Result<Fd> KernelVolumes::seize(const NodeSpec& spec, std::chrono::milliseconds patience) {
    const auto node = exposed(spec);
    if (!node)
        return fail(Errc::not_found, "the block device of volume " + spec.name + " is gone");
    return seize_device(*node, patience);
}

Result<void> KernelVolumes::resize(Shim&, const NodeSpec& spec, std::uint64_t lbas) {
    auto info = find_volume_device(spec);
    if (!info)
        return tl::unexpected(info.error());
    auto beneath = device_beneath(*info);
    if (!beneath)
        return tl::unexpected(beneath.error());
    const std::string node = node_of(number_text(*beneath));
    std::error_code none;
    if (held_loop_file(node) == spec.device)
        if (auto r = resize_loop(node, std::filesystem::file_size(spec.device, none) / 512); !r)
            return r;
    return give_table(spec, *info, lbas);
}

// Killed between its making and its first table, or between suspending and resuming.
Result<void> KernelVolumes::revive(const NodeSpec& spec, std::uint64_t lbas) {
    auto info = find_volume_device(spec);
    if (!info)
        return tl::unexpected(info.error());
    if (info->live && !info->suspended) {
        if (info->inactive) // of a switch that did not come to that
            dm_clear(info->name);
        return {};
    }
    log(Level::warning, "standing-device-revived", {{"volume", spec.name}});
    return give_table(spec, *info, lbas);
}

// The shim names devices "/dev/block/MAJOR:MINOR".
Backend::Origin KernelVolumes::origin(const dek_list_entry& endpoint) const {
    const std::string name(endpoint.name, ::strnlen(endpoint.name, sizeof endpoint.name));
    const std::filesystem::path path(
        std::string(endpoint.device, ::strnlen(endpoint.device, sizeof endpoint.device)));
    const std::string node = node_of(path.filename());
    return {name.rfind("dek-", 0) == 0 ? name.substr(4) : "", held_loop_file(node).value_or(node)};
}

} // namespace dek::kcm
