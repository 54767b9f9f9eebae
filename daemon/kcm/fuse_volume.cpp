// SPDX-License-Identifier: Apache-2.0
#include "kcm/fuse_volume.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fcntl.h>

#include "kcm/loop.h"

namespace dek::kcm {

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
