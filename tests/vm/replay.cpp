// SPDX-License-Identifier: Apache-2.0
// Reads what dm-log-writes recorded and plays it back.
//   vm_replay LOG points
//       the entries after which power may fail: flushes, FUA writes, marks; one a line
//   vm_replay LOG apply DEVICE FROM TO
//       writes entries FROM up to and with TO, numbered as `points` prints them
// The log's format: Documentation/admin-guide/device-mapper/log-writes.rst and
// drivers/md/dm-log-writes.c.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <endian.h>
#include <fcntl.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t magic = 0x6a736677736872, version = 1;
enum Flag : std::uint64_t { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8 };

struct Super {
    std::uint64_t magic, version, entries;
    std::uint32_t sector_size;
};

struct Entry {
    std::uint64_t sector, sectors; // in units of the log's sector size
    std::uint64_t flags, length;   // length of a mark's text in bytes
};

class File {
  public:
    File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
        if (fd_ < 0)
            throw std::runtime_error(path + ": " + std::strerror(errno));
    }
    ~File() { ::close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void read(void* data, std::size_t size, std::uint64_t at) const {
        if (::pread(fd_, data, size, static_cast<off_t>(at)) != static_cast<ssize_t>(size))
            throw std::runtime_error("the log ends too early");
    }
    void write(const void* data, std::size_t size, std::uint64_t at) const {
        if (::pwrite(fd_, data, size, static_cast<off_t>(at)) != static_cast<ssize_t>(size))
            throw std::runtime_error("the device takes no write");
    }

  private:
    int fd_;
};

class Log {
  public:
    explicit Log(const std::string& path) : file_(path, O_RDONLY) {
        Super super{};
        file_.read(&super, sizeof super, 0);
        if (le64toh(super.magic) != magic || le64toh(super.version) != version)
            throw std::runtime_error("not a log of dm-log-writes");
        left_ = le64toh(super.entries);
        size_ = le32toh(super.sector_size);
        at_ = size_;
    }

    // False at the end.
    bool next(Entry& e) {
        if (left_ == 0)
            return false;
        left_--;
        file_.read(&e, sizeof e, at_);
        e = {le64toh(e.sector), le64toh(e.sectors), le64toh(e.flags), le64toh(e.length)};
        head_ = at_;
        at_ += size_;
        if (!(e.flags & DISCARD))
            at_ += e.sectors * size_;
        return true;
    }
    // Of the entry that next() gave.
    std::string mark(const Entry& e) const {
        std::string text(e.length, 0);
        file_.read(text.data(), text.size(), head_ + sizeof e);
        return text.c_str();
    }
    void apply(const Entry& e, const File& device) const {
        std::vector<char> data(e.sectors * size_);
        if (!(e.flags & DISCARD)) // a discard reads as zeros
            file_.read(data.data(), data.size(), head_ + size_);
        device.write(data.data(), data.size(), e.sector * size_);
    }

  private:
    File file_;
    std::uint64_t left_ = 0, size_ = 512, at_ = 0, head_ = 0;
};

void print_points(Log& log) {
    Entry e{};
    for (unsigned long n = 0; log.next(e); n++) {
        if (e.flags & MARK)
            std::printf("%lu mark %s\n", n, log.mark(e).c_str());
        else if (e.flags & (FLUSH | FUA))
            std::printf("%lu %s\n", n, e.flags & FUA ? "fua" : "flush");
    }
}

void apply(Log& log, const File& device, unsigned long from, unsigned long to) {
    Entry e{};
    for (unsigned long n = 0; n <= to && log.next(e); n++)
        if (n >= from && e.sectors && !(e.flags & MARK))
            log.apply(e, device);
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::string what = argc > 2 ? argv[2] : "";
        if (what == "points" && argc == 3) {
            Log log(argv[1]);
            print_points(log);
            return 0;
        }
        if (what == "apply" && argc == 6) {
            Log log(argv[1]);
            apply(log, File(argv[3], O_RDWR), std::stoul(argv[4]), std::stoul(argv[5]));
            return 0;
        }
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_replay: %s\n", e.what());
        return 1;
    }
    std::fputs("usage: vm_replay LOG points | apply DEVICE FROM TO\n", stderr);
    return 2;
}
