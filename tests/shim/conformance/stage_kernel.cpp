// SPDX-License-Identifier: Apache-2.0
#include "stage_kernel.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace conformance {
namespace {

[[noreturn]] void give_up(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

bool dmsetup(const std::string& arguments) {
    return std::system(("dmsetup " + arguments).c_str()) == 0;
}

// A loop device with blocks of 512 bytes; `path` becomes its node. It goes with its last user.
int attach_loop(const std::string& file, std::string& path) {
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int number = control < 0 ? -1 : ::ioctl(control, LOOP_CTL_GET_FREE);
    ::close(control);
    if (number < 0)
        give_up("no loop device");
    path = "/dev/loop" + std::to_string(number);
    const int loop = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const int backing = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config{};
    config.fd = static_cast<__u32>(backing);
    config.block_size = 512;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (loop < 0 || backing < 0 || ::ioctl(loop, LOOP_CONFIGURE, &config) < 0)
        give_up(path);
    ::close(backing);
    return loop;
}

std::string text(const Uuid& uuid) {
    std::string out;
    for (std::size_t i = 0; i < uuid.size(); i++) {
        char byte[3];
        std::snprintf(byte, sizeof(byte), "%02x", uuid[i]);
        out += (i == 4 || i == 6 || i == 8 || i == 10) ? "-" : "";
        out += byte;
    }
    return out;
}

} // namespace

KernelStage::KernelStage() {
    char folder[] = "/tmp/dek-conformance.XXXXXX";
    if (!::mkdtemp(folder))
        throw std::runtime_error("no temporary folder");
    work_ = folder;
    if (::access(control().c_str(), R_OK | W_OK) != 0)
        give_up(control());
}

KernelStage::~KernelStage() {
    std::error_code ignored;
    std::filesystem::remove_all(work_, ignored);
}

Place KernelStage::make(const Spec& spec) {
    Place place;
    place.name = "volume-" + std::to_string(++made_);
    place.backing = work_ + "/" + place.name + ".img";
    place.node = "/dev/mapper/" + place.name;
    place.uuid[0] = 0xc0;
    std::memcpy(place.uuid.data() + 4, &made_, sizeof(made_));
    const std::string size = std::to_string(spec.offset + spec.sectors);
    std::ofstream(place.backing).close();
    std::filesystem::resize_file(place.backing, (spec.offset + spec.sectors) * 512);

    std::string device;
    Devices& d = devices_[place.name];
    d.loop = attach_loop(place.backing, device);
    if (spec.delay_ms) {
        const std::string slow = place.name + "-slow";
        if (!dmsetup("create " + slow + " --table '0 " + size + " delay " + device + " 0 " +
                     std::to_string(spec.delay_ms) + "'"))
            throw std::runtime_error("no slow device");
        d.slow = true;
        device = "/dev/mapper/" + slow;
    }
    if (!dmsetup("create " + place.name + (spec.read_only ? " --readonly" : "") + " --table '0 " +
                 std::to_string(spec.sectors) + " dek " + text(place.uuid) + " " + device + " " +
                 std::to_string(spec.offset) + " " + std::to_string(spec.data_unit) +
                 " 2 block_size:" + std::to_string(spec.logical_block) +
                 (spec.no_engine ? " engine:none'" : " engine:auto'")))
        throw std::runtime_error("no volume");
    return place;
}

void KernelStage::remove(const Place& place) {
    const auto d = devices_.find(place.name);
    // Somebody's asynchronous close may still be under way.
    if (!dmsetup("remove --retry " + place.name) ||
        (d->second.slow && !dmsetup("remove --retry " + place.name + "-slow")))
        std::fprintf(stderr, "%s cannot be removed\n", place.name.c_str());
    ::close(d->second.loop);
    devices_.erase(d);
    ::unlink(place.backing.c_str());
}

} // namespace conformance
