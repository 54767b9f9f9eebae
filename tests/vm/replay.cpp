// SPDX-License-Identifier: Apache-2.0
// Plays back what dm-log-writes recorded.
//   vm_replay LOG points
//       the entries after which power may fail: flushes, FUA writes, marks; one a line
//   vm_replay LOG apply DEVICE FROM TO
//       writes entries FROM up to and with TO, numbered as `points` prints them
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include <fcntl.h>
#include <unistd.h>

#include "write_log.h"

namespace {

void print_points(WriteLog& log) {
    for (WriteEntry e; log.next(e);) {
        const auto n = static_cast<unsigned long>(e.number);
        if (e.flags & WriteEntry::MARK)
            std::printf("%lu mark %s\n", n, log.mark().c_str());
        else if (e.flags & (WriteEntry::FLUSH | WriteEntry::FUA))
            std::printf("%lu %s\n", n, e.flags & WriteEntry::FUA ? "fua" : "flush");
    }
}

void apply(WriteLog& log, const std::string& device, unsigned long from, unsigned long to) {
    const int fd = ::open(device.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        throw std::runtime_error(device + ": " + std::strerror(errno));
    std::vector<std::uint8_t> data;
    for (WriteEntry e; log.next(e) && e.number <= to;) {
        if (e.number < from || e.size == 0 || e.flags & WriteEntry::MARK)
            continue;
        log.data(data);
        data.resize(e.size); // a discard reads as zeros
        if (::pwrite(fd, data.data(), data.size(), static_cast<off_t>(e.at)) !=
            static_cast<ssize_t>(data.size()))
            throw std::runtime_error("the device takes no write");
    }
    ::close(fd);
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::string what = argc > 2 ? argv[2] : "";
        if (what == "points" && argc == 3) {
            WriteLog log(argv[1]);
            print_points(log);
            return 0;
        }
        if (what == "apply" && argc == 6) {
            WriteLog log(argv[1]);
            apply(log, argv[3], std::stoul(argv[4]), std::stoul(argv[5]));
            return 0;
        }
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_replay: %s\n", e.what());
        return 1;
    }
    std::fputs("usage: vm_replay LOG points | apply DEVICE FROM TO\n", stderr);
    return 2;
}
