// SPDX-License-Identifier: Apache-2.0
#include "kcm/kernel_volume.h"

#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

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

std::string number_of(dev_t device) {
    return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

Result<struct stat> look_at(const std::string& path) {
    struct stat found;
    if (::stat(path.c_str(), &found) != 0)
        return fail_errno(errno, path);
    return found;
}

bool is_file(const NodeSpec& spec) {
    const auto found = look_at(spec.device);
    return found && S_ISREG(found->st_mode);
}

} // namespace

// UUID DEVICE OFFSET UNIT, as the target's constructor documents it. By number: paths are the
// kernel's to look up, and may mean something else to it.
Result<DmTarget> KernelVolumes::target_of(const NodeSpec& spec, std::uint64_t lbas) {
    std::string path = spec.device;
    if (is_file(spec)) {
        auto loop = find_loop(std::filesystem::canonical(path).string());
        if (!loop)
            return fail(Errc::not_found, "the loop device on " + path + " is gone");
        path = *loop;
    }
    const auto found = look_at(path);
    if (!found)
        return tl::unexpected(found.error());
    if (!S_ISBLK(found->st_mode))
        return fail(Errc::invalid_argument, path + " is not a block device");
    return DmTarget{0, lbas, "dek",
                    volume::uuid_text(spec.uuid) + " " + number_of(found->st_rdev) + " " +
                        std::to_string(spec.offset) + " " + std::to_string(spec.data_unit) +
                        " 1 fence:eio"};
}

Result<void> KernelVolumes::create(Shim&, const NodeSpec& spec) {
    const bool file = is_file(spec);
    std::string loop;
    if (file) {
        auto made = attach_loop(std::filesystem::canonical(spec.device).string(),
                                spec.logical_block, spec.read_only);
        if (!made)
            return tl::unexpected(made.error());
        loop = *made;
    }
    auto target = target_of(spec, spec.size);
    auto made = target
                    ? dm_create({hidden_name(spec), dm_uuid(spec), {*target}, spec.read_only, true})
                    : tl::unexpected(target.error());
    if (!made && file)
        (void)detach_loop(loop, std::filesystem::canonical(spec.device).string(),
                          std::chrono::milliseconds(500));
    return made;
}

Result<Fd> KernelVolumes::open(const NodeSpec& spec) {
    auto info = dm_find(dm_uuid(spec));
    if (!info)
        return tl::unexpected(info.error());
    if (!*info)
        return fail(Errc::not_found, "the device of volume " + spec.name + " is gone");
    Fd fd(::open((*info)->node.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, (*info)->node + " cannot be opened");
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
        return {};
    return dm_remove((*info)->name, patience);
}

// The endpoint goes with the last table that names it.
Result<void> KernelVolumes::remove(Shim&, const NodeSpec& spec,
                                   std::chrono::milliseconds patience) {
    if (auto r = conceal(spec, patience); !r)
        return r;
    if (!is_file(spec))
        return {};
    const std::string file = std::filesystem::canonical(spec.device).string();
    const auto loop = find_loop(file);
    return loop ? detach_loop(*loop, file, patience) : Result<void>();
}

Result<void> KernelVolumes::resize(Shim&, const NodeSpec& spec, std::uint64_t lbas) {
    auto info = dm_find(dm_uuid(spec));
    if (!info)
        return tl::unexpected(info.error());
    if (!*info)
        return fail(Errc::not_found, "the device of volume " + spec.name + " is gone");
    if (is_file(spec))
        if (auto loop = find_loop(std::filesystem::canonical(spec.device).string()))
            if (auto r = resize_loop(*loop); !r)
                return r;
    auto target = target_of(spec, lbas);
    if (!target)
        return tl::unexpected(target.error());
    return dm_replace((*info)->name, {*target}, spec.read_only);
}

} // namespace dek::kcm
