// SPDX-License-Identifier: Apache-2.0
#include "kcm/loop.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "kcm/device.h"
#include "kcm/device_use.h"

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;

std::string attribute_of(const std::string& loop, const char* attribute) {
    std::ifstream in("/sys/block/" + fs::path(loop).filename().string() + "/loop/" + attribute);
    std::string line;
    std::getline(in, line);
    return line;
}

std::string backing_of(const std::string& loop) {
    return attribute_of(loop, "backing_file");
}

// What it was made for, as far as the kernel keeps that: also when the file's mount has gone and
// its path with it.
std::string made_for(const std::string& loop) {
    const Fd fd(::open(loop.c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info;
    if (!fd || ::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0)
        return "";
    const auto* name = reinterpret_cast<const char*>(info.lo_file_name);
    return {name, ::strnlen(name, LO_NAME_SIZE - 1)};
}

// Also one on a file of this name that no path leads to any more.
bool is_on(const std::string& loop, const std::string& file) {
    const std::string backing = backing_of(loop);
    if (backing.empty() || backing == file)
        return !backing.empty();
    std::error_code none;
    return file.size() < LO_NAME_SIZE && !fs::is_regular_file(backing, none) &&
           !fs::is_block_file(backing, none) && made_for(loop) == file;
}

Result<Fd> open_file(const std::string& file, bool read_only) {
    // Direct from the start: what loop sets later it may silently not get.
    Fd fd(::open(file.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, file + " cannot be opened");
    return fd;
}

loop_config configuration(const std::string& file, int backing, std::uint32_t block,
                          std::uint32_t flags) {
    loop_config config;
    std::memset(&config, 0, sizeof config);
    config.fd = static_cast<__u32>(backing);
    config.block_size = block;
    config.info.lo_flags = LO_FLAGS_DIRECT_IO | flags;
    std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), file.c_str(), LO_NAME_SIZE - 1);
    return config;
}

// None (EBUSY): another program took this free loop device first.
Result<Fd> configure(const std::string& loop, const loop_config& config) {
    const bool read_only = config.info.lo_flags & LO_FLAGS_READ_ONLY;
    Fd fd;
    for (int tries = 0; !fd && tries < 50; tries++) { // udev may still have to make the node
        fd = Fd(::open(loop.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
        if (!fd && errno != ENOENT)
            break;
        if (!fd)
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (!fd)
        return fail_errno(errno, loop + " cannot be opened");
    if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0)
        return fd;
    if (errno == EBUSY)
        return Fd();
    return fail_errno(errno, loop + " cannot be set up");
}

// Exclusive opening is refused while it is mounted, swapped to or held.
Result<Fd> claim(const std::string& loop) {
    Fd fd(::open(loop.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
    if (!fd && (errno == EROFS || errno == EACCES))
        fd = Fd(::open(loop.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, loop);
    return fd;
}

// With other openers the kernel only promises to detach later (autoclear); that promise is taken
// back.
// `dead`: nobody is left to flush to.
Result<void> clear(const std::string& loop, bool dead) {
    auto fd = claim(loop);
    if (!fd)
        return tl::unexpected(fd.error());
    if (::fsync(fd->get()) != 0 && !dead)
        return fail_errno(errno, loop + " cannot be flushed");
    if (::ioctl(fd->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO)
        return fail_errno(errno, loop + " cannot be detached");
    loop_info64 info;
    if (::ioctl(fd->get(), LOOP_GET_STATUS64, &info) != 0)
        return {}; // ENXIO: it lets go of its file when `fd` closes
    info.lo_flags &= ~static_cast<__u32>(LO_FLAGS_AUTOCLEAR);
    ::ioctl(fd->get(), LOOP_SET_STATUS64, &info);
    return fail(Errc::busy, loop + " is open");
}

} // namespace

Result<std::string> attach_loop(const std::string& file, std::uint32_t logical_block,
                                bool read_only, Fd* hold) {
    const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control)
        return fail(Errc::unsupported,
                    "this kernel has no loop devices (/dev/loop-control cannot be opened)");
    auto backing = open_file(file, read_only);
    if (!backing)
        return tl::unexpected(backing.error());
    std::uint32_t flags = read_only ? std::uint32_t{LO_FLAGS_READ_ONLY} : 0;
    if (hold)
        flags |= LO_FLAGS_AUTOCLEAR;
    const auto config = configuration(file, backing->get(), logical_block, flags);
    for (int tries = 0; tries < 20; tries++) {
        const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0)
            return fail_errno(errno, "no free loop device");
        const std::string loop = "/dev/loop" + std::to_string(number);
        auto done = configure(loop, config);
        if (!done)
            return tl::unexpected(done.error());
        if (!*done)
            continue;
        if (hold)
            *hold = std::move(*done);
        return loop;
    }
    return fail(Errc::busy, "every free loop device was taken by somebody else");
}

std::optional<std::string> held_loop_file(const std::string& loop) {
    const std::string file = backing_of(loop);
    if (file.empty() || attribute_of(loop, "autoclear") != "1")
        return std::nullopt;
    return file;
}

std::optional<std::string> find_loop(const std::string& file) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator("/sys/block", none)) {
        const std::string name = entry.path().filename().string();
        if (name.rfind("loop", 0) == 0 && is_on("/dev/" + name, file))
            return "/dev/" + name;
    }
    return std::nullopt;
}

Result<void> detach_loop(const std::string& loop, const std::string& file,
                         std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        if (!is_on(loop, file))
            return {};
        auto done = clear(loop, backing_of(loop) != file);
        if (done || done.error().code != Errc::busy)
            return done;
        if (std::chrono::steady_clock::now() >= until) {
            auto device = open_device(loop, Access::read);
            const auto who = device ? check_unused(*device) : Result<void>();
            return fail(Errc::busy, who ? loop + " is open" : who.error().reason);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

Result<void> resize_loop(const std::string& loop, std::uint64_t lbas) {
    std::ifstream size("/sys/block/" + fs::path(loop).filename().string() + "/size");
    std::uint64_t now = 0;
    if (size >> now && now == lbas)
        return {};
    const Fd fd(::open(loop.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || ::ioctl(fd.get(), LOOP_SET_CAPACITY, 0) != 0)
        return fail_errno(errno, loop + " cannot take over its new size");
    return {};
}

} // namespace dek::kcm
