// SPDX-License-Identifier: Apache-2.0
#include "kcm/device_use.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

// Paths in /proc have blanks and the like as \ooo.
std::string unescaped(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3') {
            out += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

bool names_device(const std::string& path, const Device& device,
                  const std::set<std::string>& numbers) {
    struct stat st;
    if (path.empty() || path[0] != '/' || ::stat(path.c_str(), &st) != 0)
        return false;
    if (device.block)
        return S_ISBLK(st.st_mode) && numbers.count(number_text(st.st_rdev)) > 0;
    return S_ISREG(st.st_mode) && st.st_dev == device.number && st.st_ino == device.inode;
}

// "MAJOR:MINOR" of the device and of its partitions, with their names.
std::set<std::string> numbers_of(const Device& device, const KernelView& kernel) {
    std::set<std::string> numbers;
    if (!device.block)
        return numbers;
    numbers.insert(number_text(device.number));
    std::error_code none;
    const fs::path sys = fs::path(kernel.sys) / "dev/block" / number_text(device.number);
    for (const auto& entry : fs::directory_iterator(sys, none))
        if (fs::exists(entry.path() / "partition", none))
            numbers.insert(first_line(entry.path() / "dev"));
    return numbers;
}

Result<void> check_mounts(const Device& device, const std::set<std::string>& numbers,
                          const KernelView& kernel) {
    std::ifstream in(kernel.mountinfo);
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::string id, parent, number, root, where, word, type, source;
        fields >> id >> parent >> number >> root >> where;
        while (fields >> word && word != "-")
            ;
        fields >> type >> source;
        if (numbers.count(number) > 0 || names_device(unescaped(source), device, numbers))
            return fail(Errc::busy, device.path + " is mounted at " + unescaped(where));
    }
    return {};
}

Result<void> check_swaps(const Device& device, const std::set<std::string>& numbers,
                         const KernelView& kernel) {
    std::ifstream in(kernel.swaps);
    std::string line;
    std::getline(in, line); // the heading
    while (std::getline(in, line))
        if (names_device(unescaped(line.substr(0, line.find_first_of(" \t"))), device, numbers))
            return fail(Errc::busy, device.path + " is in use as swap space");
    return {};
}

Result<void> check_holders(const Device& device, const std::set<std::string>& numbers,
                           const KernelView& kernel) {
    std::error_code none;
    for (const auto& number : numbers)
        for (const auto& holder :
             fs::directory_iterator(fs::path(kernel.sys) / "dev/block" / number / "holders", none))
            return fail(Errc::busy,
                        device.path + " is in use by " + holder.path().filename().string());
    return {};
}

bool loop_is_on(const std::string& loop, const Device& device) {
    const Fd fd(::open(loop.c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info;
    if (!fd || ::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0)
        return false;
    // The C library's dev_t has the kernel's encoding in its low 32 bits.
    if (device.block)
        return info.lo_rdevice == device.number;
    return info.lo_device == device.number && info.lo_inode == device.inode;
}

Result<void> check_loops(const Device& device, const KernelView& kernel) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(fs::path(kernel.sys) / "block", none)) {
        const auto backing = entry.path() / "loop/backing_file";
        if (!fs::exists(backing, none))
            continue;
        const std::string loop = "/dev/" + entry.path().filename().string();
        if (unescaped(first_line(backing)) == device.path || loop_is_on(loop, device))
            return fail(Errc::busy, device.path + " is in use by " + loop);
    }
    return {};
}

// Told by the links alone: to ask for the files behind them may block, on a server that does not
// answer, say.
Result<void> check_openers(const Device& device, const KernelView& kernel) {
    std::error_code none;
    const std::string self = std::to_string(::getpid());
    for (const auto& process : fs::directory_iterator(kernel.proc, none)) {
        const std::string pid = process.path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos || pid == self)
            continue;
        for (const auto& entry : fs::directory_iterator(process.path() / "fd", none)) {
            const std::string opened = fs::read_symlink(entry.path(), none).string();
            const bool node = opened.rfind("/dev/", 0) == 0;
            if (opened == device.path ||
                (node && names_device(opened, device, {number_text(device.number)})))
                return fail(Errc::busy, device.path + " is open (process " + pid + ", " +
                                            first_line(process.path() / "comm") + ")");
        }
    }
    return {};
}

// Everything but exclusive openers.
Result<void> look(const Device& device, const KernelView& kernel) {
    const auto numbers = numbers_of(device, kernel);
    if (auto r = check_mounts(device, numbers, kernel); !r)
        return r;
    if (auto r = check_swaps(device, numbers, kernel); !r)
        return r;
    if (auto r = check_holders(device, numbers, kernel); !r)
        return r;
    return check_loops(device, kernel);
}

Result<Fd> claim_block(const Device& device) {
    Fd fd(::open(device.path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
    if (!fd && errno == EBUSY)
        return fail(Errc::busy, device.path + " is in use by the kernel or another program");
    if (!fd)
        return fail_errno(errno, device.path + " cannot be claimed");
    struct stat st;
    if (::fstat(fd.get(), &st) != 0 || !S_ISBLK(st.st_mode) || st.st_rdev != device.number)
        return fail(Errc::busy, device.path + " is another device now");
    return fd;
}

Result<Fd> claim_file(const Device& device) {
    // For writing where that may be: some network filesystems want it for an exclusive lock.
    const int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    Fd fd(::open(device.path.c_str(), (device.read_only ? O_RDONLY : O_RDWR) | flags));
    if (!fd)
        fd = Fd(::open(device.path.c_str(), O_RDONLY | flags));
    if (!fd)
        return fail_errno(errno, device.path + " cannot be claimed");
    struct stat st;
    if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_dev != device.number ||
        st.st_ino != device.inode)
        return fail(Errc::busy, device.path + " is another file now");
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? fail(Errc::busy, device.path + " is in use by another program")
                   : fail_errno(errno, device.path + " cannot be locked");
    return fd;
}

} // namespace

Result<Fd> claim(const Device& device) {
    return device.block ? claim_block(device) : claim_file(device);
}

Result<Fd> claim_unused(const Device& device, const KernelView& kernel) {
    if (auto r = look(device, kernel); !r)
        return tl::unexpected(r.error());
    return claim(device);
}

Result<Fd> claim_closed(const Device& device, const KernelView& kernel) {
    auto claimed = claim_unused(device, kernel);
    if (!claimed)
        return claimed;
    if (auto r = check_openers(device, kernel); !r)
        return tl::unexpected(r.error());
    return claimed;
}

Result<Fd> seize_device(const std::string& node, std::chrono::milliseconds patience) {
    auto device = open_device(node, Access::read);
    if (!device)
        return tl::unexpected(device.error());
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        auto claimed = claim_closed(*device);
        if (claimed || claimed.error().code != Errc::busy ||
            std::chrono::steady_clock::now() >= until)
            return claimed;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

Result<void> check_unused(const Device& device, const KernelView& kernel) {
    auto r = look(device, kernel);
    if (!r)
        return r;
    const auto claimed = claim(device); // and given up at once
    return claimed || claimed.error().code != Errc::busy ? r : tl::unexpected(claimed.error());
}

} // namespace dek::kcm
