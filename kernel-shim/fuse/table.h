// SPDX-License-Identifier: Apache-2.0
// The volume table: what outlives a worker. Configuration only, never a key. It lies in a memfd
// that the holder keeps and the worker writes.
//
// A worker may be killed between any two stores: each change of the table becomes visible by one
// aligned store, so the next worker finds the old entry or the new one.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include <dek/ioctl.h>

#include "base/fd.h"
#include "base/result.h"

namespace dek::shim {

constexpr unsigned kMaxVolumes = 256;

// Which device a path meant when the volume was made.
struct DeviceIdentity {
    std::uint64_t device = 0; // st_rdev of a block device, st_dev of a file
    std::uint64_t inode = 0;  // of a file
    bool operator==(const DeviceIdentity&) const = default;
};

struct Slot {
    std::uint32_t used;    // 1: the rest is valid
    std::uint32_t had_map; // 1: a controller has given it a map or a key in some life
    // 1: a flush of its device failed. The device says so once; what was lost then is lost still.
    std::uint32_t flush_failed;
    std::uint32_t flushes; // begun, and what they ended with is not noted yet
    std::uint64_t restarts;
    std::uint64_t flushes_unknown; // lost with the worker that had begun them
    DeviceIdentity identity;
    dek_ioc_volume config; // count, fence and flags are the present ones
};

// Threading: one thread of the worker writes, but for count_restart(), the holder's before a worker
// begins, settle_flushes(), the same, and flush_failed() and flushes(), any thread's.
class VolumeTable {
  public:
    static Result<VolumeTable> create();
    static Result<VolumeTable> open(Fd memfd);
    VolumeTable(VolumeTable&& other) noexcept;
    VolumeTable& operator=(VolumeTable&&) = delete;
    ~VolumeTable();

    int fd() const { return fd_.get(); }
    unsigned size() const { return kMaxVolumes; }
    bool used(unsigned slot) const;
    const Slot& at(unsigned slot) const { return slots()[slot]; }

    // A free slot, or -1.
    int find_free() const;
    // Fills a free slot; visible to the next worker only after commit().
    void prepare(unsigned slot, const dek_ioc_volume& config, const DeviceIdentity& identity);
    void commit(unsigned slot);
    void erase(unsigned slot);
    void set_count(unsigned slot, std::uint64_t count);
    void set_fence(unsigned slot, std::uint32_t fence);
    void set_flags(unsigned slot, std::uint32_t flags);
    void set_had_map(unsigned slot);
    void count_restart(unsigned slot);
    std::uint32_t* flush_failed(unsigned slot) const { return &slots()[slot].flush_failed; }
    std::uint32_t* flushes(unsigned slot) const { return &slots()[slot].flushes; }
    // The worker is gone: what it had begun becomes unknown. Returns how many.
    std::uint32_t settle_flushes(unsigned slot);
    // Did the last worker answer all it had taken before it ended? Set at its end, cleared by
    // the next before it takes any.
    bool orderly() const;
    void set_orderly(bool orderly);

  private:
    struct Layout;
    VolumeTable(Fd fd, Layout* memory) : fd_(std::move(fd)), memory_(memory) {}
    static Result<VolumeTable> map(Fd memfd);
    std::span<Slot> slots() const;

    Fd fd_;
    Layout* memory_;
};

} // namespace dek::shim
