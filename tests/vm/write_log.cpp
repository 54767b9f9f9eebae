// SPDX-License-Identifier: Apache-2.0
#include "write_log.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include <endian.h>
#include <fcntl.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t magic = 0x6a736677736872, version = 1;

struct Super {
    std::uint64_t magic, version, entries;
    std::uint32_t sector_size;
};

struct Head {
    std::uint64_t sector, sectors; // in units of the log's sector size
    std::uint64_t flags, length;   // length of a mark's text in bytes
};

} // namespace

WriteLog::WriteLog(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0)
        throw std::runtime_error(path + ": " + std::strerror(errno));
    try {
        Super super{};
        read(&super, sizeof super, 0);
        entries_ = le64toh(super.entries);
        sector_ = le32toh(super.sector_size);
        if (le64toh(super.magic) != magic || le64toh(super.version) != version || sector_ < 512 ||
            sector_ > 65536)
            throw std::runtime_error("not a log of dm-log-writes");
        next_ = sector_;
    } catch (...) {
        ::close(fd_);
        throw;
    }
}

WriteLog::~WriteLog() {
    ::close(fd_);
}

void WriteLog::read(void* data, std::size_t size, std::uint64_t at) const {
    if (::pread(fd_, data, size, static_cast<off_t>(at)) != static_cast<ssize_t>(size))
        throw std::runtime_error("the log ends too early");
}

bool WriteLog::next(WriteEntry& e) {
    if (done_ == entries_)
        return false;
    Head head{};
    read(&head, sizeof head, next_);
    e = {done_++, le64toh(head.sector) * sector_, le64toh(head.sectors) * sector_,
         le64toh(head.flags)};
    head_ = next_;
    mark_size_ = e.flags & WriteEntry::MARK ? le64toh(head.length) : 0;
    data_size_ = e.flags & WriteEntry::DISCARD ? 0 : e.size;
    next_ += sector_ + data_size_;
    return true;
}

std::string WriteLog::mark() const {
    if (mark_size_ > sector_ - sizeof(Head))
        throw std::runtime_error("a mark is longer than its sector");
    std::string text(mark_size_, 0);
    read(text.data(), text.size(), head_ + sizeof(Head));
    return text.c_str();
}

void WriteLog::data(std::vector<std::uint8_t>& bytes) const {
    if (data_size_ > std::uint64_t{1} << 30)
        throw std::runtime_error("a write of more than a GiB");
    bytes.resize(data_size_);
    read(bytes.data(), bytes.size(), head_ + sector_);
}
