// SPDX-License-Identifier: Apache-2.0
#include "mapper.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace {
constexpr std::size_t buffer_size = 16384;
using Buffer = std::array<char, buffer_size>;
} // namespace

Mapper::Mapper(std::string name) : name_(std::move(name)) {
    control_ = ::open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (control_ < 0)
        throw std::runtime_error("no /dev/mapper/control");
}

Mapper::~Mapper() {
    ::close(control_);
}

int Mapper::call(unsigned long number, std::uint32_t flags, void* buffer, std::size_t size) {
    auto* io = static_cast<dm_ioctl*>(buffer);
    io->version[0] = DM_VERSION_MAJOR;
    io->data_size = static_cast<std::uint32_t>(size);
    io->data_start = sizeof(dm_ioctl);
    io->flags = flags;
    std::snprintf(io->name, sizeof io->name, "%s", name_.c_str());
    return ::ioctl(control_, number, buffer) < 0 ? errno : 0;
}

int Mapper::plain(unsigned long number, std::uint32_t flags) {
    alignas(8) Buffer buffer{};
    return call(number, flags, buffer.data(), buffer.size());
}

int Mapper::create() {
    alignas(8) Buffer buffer{};
    const int error = call(DM_DEV_CREATE, 0, buffer.data(), buffer.size());
    if (error == 0) {
        dm_ioctl io{};
        std::memcpy(&io, buffer.data(), sizeof io);
        node_ = "/dev/dm-" + std::to_string(minor(io.dev));
    }
    return error;
}

int Mapper::remove() {
    return plain(DM_DEV_REMOVE, 0);
}

int Mapper::load(std::uint64_t start, std::uint64_t length, const std::string& parameters) {
    alignas(8) Buffer buffer{};
    dm_target_spec spec{};
    spec.sector_start = start;
    spec.length = length;
    std::strcpy(spec.target_type, "dek");
    const std::size_t room = buffer.size() - sizeof(dm_ioctl) - sizeof spec - 1;
    const std::size_t size = parameters.size() < room ? parameters.size() : room;
    std::memcpy(buffer.data() + sizeof(dm_ioctl), &spec, sizeof spec);
    std::memcpy(buffer.data() + sizeof(dm_ioctl) + sizeof spec, parameters.data(), size);
    reinterpret_cast<dm_ioctl*>(buffer.data())->target_count = 1;
    return call(DM_TABLE_LOAD, 0, buffer.data(), buffer.size());
}

int Mapper::clear() {
    return plain(DM_TABLE_CLEAR, 0);
}

int Mapper::resume() {
    return plain(DM_DEV_SUSPEND, 0);
}

int Mapper::suspend(bool noflush) {
    const std::uint32_t flags = DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG;
    return plain(DM_DEV_SUSPEND, flags | (noflush ? DM_NOFLUSH_FLAG : 0u));
}

int Mapper::status(bool table) {
    return plain(DM_TABLE_STATUS, table ? DM_STATUS_TABLE_FLAG : 0u);
}
