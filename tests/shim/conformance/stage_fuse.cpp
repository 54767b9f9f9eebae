// SPDX-License-Identifier: Apache-2.0
#include "stage_fuse.h"
#include "stage_kernel.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace conformance {
namespace {

using namespace std::chrono_literals;

void eventually(const std::string& what, const std::function<bool()>& holds) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > end)
            throw std::runtime_error("not within 20 s: " + what);
        std::this_thread::sleep_for(2ms);
    }
}

void stop(pid_t pid) {
    ::kill(pid, SIGTERM);
    ::waitpid(pid, nullptr, 0);
}

void must(int error, const std::string& what) {
    if (error)
        throw std::runtime_error(what + ": " + std::strerror(error));
}

} // namespace

FuseStage::FuseStage(const std::string& program, const std::string& slowfs) : slowfs_(slowfs) {
    char folder[] = "/dev/shm/dek-conformance.XXXXXX"; // memory: no disk's speed in the results
    if (!::mkdtemp(folder))
        throw std::runtime_error("no temporary folder");
    work_ = folder;
    shimd_ = start({program, "--dir", work_ + "/shim", "--recover-ms", "700"});
    wait_for_control();
}

FuseStage::~FuseStage() {
    stop(shimd_);
    for (const auto& [folder, pid] : slow_) {
        ::umount2(folder.c_str(), MNT_DETACH);
        stop(pid);
    }
    std::error_code ignored;
    std::filesystem::remove_all(work_, ignored);
}

pid_t FuseStage::start(const std::vector<std::string>& arguments) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        const int log = ::open((work_ + "/log").c_str(), O_CREAT | O_APPEND | O_WRONLY, 0600);
        ::dup2(log, 1);
        ::dup2(log, 2);
        std::vector<char*> argv;
        for (const auto& a : arguments)
            argv.push_back(const_cast<char*>(a.c_str()));
        argv.push_back(nullptr);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    return pid;
}

void FuseStage::wait_for_control() const {
    eventually("the control file answers", [&] {
        dek_ioc_version version{};
        return ioctl(DEK_IOC_VERSION, &version) == 0;
    });
}

int FuseStage::ioctl(unsigned long number, void* argument) const {
    const int fd = ::open(control().c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    const int error = ::ioctl(fd, number, argument) < 0 ? errno : 0;
    ::close(fd);
    return error;
}

std::string FuseStage::slow_device(const std::string& backing, const std::string& folder,
                                   unsigned ms) {
    std::filesystem::create_directory(folder);
    slow_[folder] = start({slowfs_, backing, folder, std::to_string(ms), "fixed"});
    eventually("slowfs", [&] { return std::filesystem::exists(folder + "/disk"); });
    return folder + "/disk";
}

Place FuseStage::make(const Spec& spec) {
    Place place;
    place.name = "volume-" + std::to_string(++made_);
    place.backing = work_ + "/" + place.name + ".img";
    place.node = work_ + "/shim/volumes/" + place.name;
    place.uuid[0] = 0xc0;
    std::memcpy(place.uuid.data() + 4, &made_, sizeof(made_));
    std::ofstream(place.backing).close();
    std::filesystem::resize_file(place.backing, (spec.offset + spec.sectors) * 512);
    std::string device = place.backing;
    if (spec.delay_ms)
        device = slow_device(place.backing, work_ + "/" + place.name + ".slow", spec.delay_ms);
    dek_ioc_volume v{};
    std::copy(place.uuid.begin(), place.uuid.end(), v.uuid);
    v.offset = spec.offset;
    v.count = spec.sectors;
    v.data_unit = spec.data_unit;
    v.logical_block = spec.logical_block;
    v.flags =
        (spec.read_only ? DEK_VOLUME_READONLY : 0) | (spec.no_engine ? DEK_VOLUME_NO_ENGINE : 0);
    place.name.copy(v.name, sizeof(v.name) - 1);
    device.copy(v.device, sizeof(v.device) - 1);
    must(ioctl(DEK_IOC_VOLUME_CREATE, &v), "DEK_IOC_VOLUME_CREATE");
    return place;
}

void FuseStage::remove(const Place& place) {
    dek_ioc_volume_ref ref{};
    std::copy(place.uuid.begin(), place.uuid.end(), ref.uuid);
    const int error = ioctl(DEK_IOC_VOLUME_REMOVE, &ref); // ENOENT: the test removed it itself
    if (error && error != ENOENT)
        std::fprintf(stderr, "%s cannot be removed: %s\n", place.name.c_str(),
                     std::strerror(error));
    const auto slow = slow_.find(work_ + "/" + place.name + ".slow");
    if (slow != slow_.end()) {
        ::umount2(slow->first.c_str(), MNT_DETACH);
        stop(slow->second);
        slow_.erase(slow);
    }
    ::unlink(place.backing.c_str());
}

pid_t FuseStage::worker() const {
    pid_t pid = 0;
    std::ifstream(work_ + "/shim/worker.pid") >> pid;
    return pid;
}

bool FuseStage::new_life() {
    const pid_t old = worker();
    ::kill(old, SIGKILL);
    eventually("a new worker", [&] { return worker() != 0 && worker() != old; });
    wait_for_control();
    return true;
}

std::unique_ptr<Stage> make_stage(const std::string& kind, const std::string& program,
                                  const std::string& slowfs) {
    if (kind == "fuse")
        return std::make_unique<FuseStage>(program, slowfs);
    if (kind == "kernel")
        return std::make_unique<KernelStage>();
    throw std::runtime_error("no such shim: " + kind);
}

} // namespace conformance
