// SPDX-License-Identifier: Apache-2.0
#include "kcm/fuse_volume.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <fcntl.h>

#include "kcm/device_use.h"
#include "kcm/loop.h"

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;

// A line of a mount table: which filesystem ("0:77"), where, and whether what is unmounted
// elsewhere may go here as well.
struct MountLine {
    std::string number, where;
    bool follows = false;
};

std::vector<MountLine> mounts_of(const fs::path& process) {
    std::ifstream in(process / "mountinfo");
    std::vector<MountLine> lines;
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::string id, parent, root, option;
        MountLine mount;
        fields >> id >> parent >> mount.number >> root >> mount.where >> option;
        while (fields >> option && option != "-")
            mount.follows =
                mount.follows || option.rfind("shared:", 0) == 0 || option.rfind("master:", 0) == 0;
        lines.push_back(std::move(mount));
    }
    return lines;
}

// A volume file is unmounted before its volume goes, which it does not while another mount
// namespace has a private copy of that mount; and then nobody could mount it again.
Result<void> check_mounted_once(const std::string& file) {
    std::string number;
    for (const auto& mount : mounts_of("/proc/self"))
        if (mount.where == file)
            number = mount.number;
    if (number.empty())
        return {};
    std::error_code none;
    std::set<std::string> seen{fs::read_symlink("/proc/self/ns/mnt", none).string()};
    for (const auto& process : fs::directory_iterator("/proc", none)) {
        const std::string pid = process.path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos)
            continue;
        const auto name_space = fs::read_symlink(process.path() / "ns/mnt", none).string();
        if (name_space.empty() || !seen.insert(name_space).second) // gone, or looked at
            continue;
        const auto theirs = mounts_of(process.path());
        if (std::any_of(theirs.begin(), theirs.end(), [&](const auto& mount) {
                return mount.number == number && !mount.follows;
            }))
            return fail(Errc::busy, "process " + pid + " has a copy of the mount of " + file +
                                        " in a mount namespace of its own");
    }
    return {};
}

} // namespace

// Canonical, because loop devices are found by the path the kernel tells.
FuseVolumes::FuseVolumes(const std::string& shim_dir, std::chrono::milliseconds recover)
    : shim_dir_(std::filesystem::weakly_canonical(shim_dir).string()), recover_(recover) {}

Result<void> FuseVolumes::create(Shim& shim, const NodeSpec& spec) {
    dek_ioc_volume v;
    std::memset(&v, 0, sizeof v);
    if (spec.device.size() >= sizeof v.device || spec.name.size() >= sizeof v.name)
        return fail(Errc::invalid_argument, "the path of " + spec.name + "'s device is too long");
    std::memcpy(v.uuid, spec.uuid.data(), spec.uuid.size());
    v.offset = spec.offset;
    v.count = spec.size;
    v.data_unit = spec.data_unit;
    v.logical_block = spec.logical_block;
    v.fence = DEK_FENCE_EIO;
    v.flags = spec.read_only ? DEK_VOLUME_READONLY : 0;
    v.recover_ms = static_cast<__u32>(recover_.count());
    std::memcpy(v.name, spec.name.data(), spec.name.size());
    std::memcpy(v.device, spec.device.data(), spec.device.size());
    return shim.volume_create(v);
}

Result<Fd> FuseVolumes::open(const NodeSpec& spec) {
    Fd fd(::open(file_of(spec).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, file_of(spec) + " cannot be opened");
    return fd;
}

std::optional<std::string> FuseVolumes::exposed(const NodeSpec& spec) {
    return find_loop(file_of(spec));
}

Result<std::string> FuseVolumes::expose(const NodeSpec& spec) {
    if (auto there = exposed(spec))
        return *there;
    return attach_loop(file_of(spec), spec.logical_block, spec.read_only);
}

Result<void> FuseVolumes::conceal(const NodeSpec& spec, std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    auto alone = check_mounted_once(file_of(spec));
    while (!alone && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        alone = check_mounted_once(file_of(spec));
    }
    if (!alone)
        return alone;
    const auto loop = exposed(spec);
    return loop ? detach_loop(*loop, file_of(spec), patience) : Result<void>();
}

Result<void> FuseVolumes::remove(Shim& shim, const NodeSpec& spec,
                                 std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        auto done = shim.volume_remove(spec.uuid);
        if (!done && done.error().code == Errc::not_found)
            return {};
        // A file that was just closed is let go of a moment later.
        if (done || done.error().code != Errc::busy || std::chrono::steady_clock::now() >= until)
            return done;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

Result<Fd> FuseVolumes::seize(const NodeSpec& spec, std::chrono::milliseconds patience) {
    const auto node = exposed(spec);
    if (!node)
        return fail(Errc::not_found, "the block device of volume " + spec.name + " is gone");
    return seize_device(*node, patience);
}

Result<void> FuseVolumes::resize(Shim& shim, const NodeSpec& spec, std::uint64_t lbas) {
    return shim.volume_resize(spec.uuid, lbas);
}

Backend::Origin FuseVolumes::origin(const dek_list_entry& endpoint) const {
    return {{endpoint.name, ::strnlen(endpoint.name, sizeof endpoint.name)},
            {endpoint.device, ::strnlen(endpoint.device, sizeof endpoint.device)}};
}

Result<void> FuseVolumes::rescale(const NodeSpec& spec) {
    const auto loop = exposed(spec);
    return loop ? resize_loop(*loop, spec.size) : Result<void>();
}

} // namespace dek::kcm
