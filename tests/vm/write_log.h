// SPDX-License-Identifier: Apache-2.0
// A reader of what dm-log-writes recorded: Documentation/admin-guide/device-mapper/log-writes.rst
// and drivers/md/dm-log-writes.c.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct WriteEntry {
    enum Flag : std::uint64_t { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8 };
    std::uint64_t number = 0; // from 0
    std::uint64_t at = 0;     // bytes from the device's start
    std::uint64_t size = 0;   // bytes; of a discard, too
    std::uint64_t flags = 0;
};

// Throws std::runtime_error for what is no log, or ends too early.
class WriteLog {
  public:
    explicit WriteLog(const std::string& path);
    ~WriteLog();
    WriteLog(const WriteLog&) = delete;
    WriteLog& operator=(const WriteLog&) = delete;

    bool next(WriteEntry& e); // false at the end
    // Of the entry that next() gave last.
    std::string mark() const;
    void data(std::vector<std::uint8_t>& bytes) const; // empty for a discard

  private:
    void read(void* data, std::size_t size, std::uint64_t at) const;

    int fd_;
    std::uint64_t entries_ = 0, done_ = 0, sector_ = 512; // bytes of a sector of the log
    std::uint64_t next_ = 0, head_ = 0;                   // bytes in the log
    std::uint64_t data_size_ = 0, mark_size_ = 0;
};
