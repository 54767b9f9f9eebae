// SPDX-License-Identifier: Apache-2.0
// One request of a volume's file on its way through a lane, and the memory requests live in:
// locked, touched and never allocated while I/O runs.
//
// Data of up to kSmall bytes lies in the request's own piece; what is larger goes on in one of the
// lane's large pieces, so a queue of small requests does not take a mebibyte each.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <libaio.h>
#include <sys/uio.h>

#include "core.h"
#include "fuse_wire.h"

namespace dek::shim {

struct Berth; // a volume in a lane

constexpr std::uint32_t kSmall = 16384;
constexpr std::uint32_t kLarge = kMaxTransfer;
constexpr unsigned kPiecesAtOnce = 16;

struct Request {
    // Read by the control thread under the lane's lock: what is under way where since when.
    std::atomic<std::uint64_t> epoch{0}; // of the volume at the lookup; 0: not under way
    Berth* berth = nullptr;
    std::uint64_t first = 0; // sectors of the device
    std::uint64_t count = 0;
    bool write = false;

    std::uint32_t opcode = 0;
    std::uint64_t unique = 0;
    std::uint64_t offset = 0; // bytes in the volume
    std::uint32_t size = 0;
    std::uint32_t done = 0; // of size; a request with many pieces goes in several rounds
    std::uint32_t span = 0; // of this round
    bool waited = false;
    int error = 0; // errno, when it was refused

    std::uint8_t* small = nullptr; // kSmall bytes
    std::uint8_t* large = nullptr; // kLarge bytes, or none
    // A write's data begins in `small` and goes on at the start of `large`; a read's lies in one.
    bool split() const { return write && large; }

    struct Piece {
        dek_association* association; // NULL: as it is
        std::uint64_t sectors;
    };
    std::array<Piece, kPiecesAtOnce> pieces{};
    unsigned piece_count = 0;

    iocb operation{};
    std::array<iovec, 2> parts{};
    Request* next = nullptr;

    // Was it looked up before `before`, not ended yet, and does it touch the sectors? `count` may
    // reach to the end of all numbers.
    bool under_way(std::uint64_t before, std::uint64_t at, std::uint64_t sectors) const {
        const std::uint64_t since = epoch.load(std::memory_order_acquire);
        return since && since < before && (first < at ? at - first < count : first - at < sectors);
    }

    // The memory at byte `at` of the request and how much of it lies together.
    std::span<std::uint8_t> memory(std::uint32_t at) {
        if (!large)
            return {small + at, kSmall - at};
        if (!write)
            return {large + at, kLarge - at};
        return at < kSmall ? std::span{small + at, kSmall - at}
                           : std::span{large + (at - kSmall), kLarge - (at - kSmall)};
    }
};

// First in, first out.
class RequestQueue {
  public:
    bool empty() const { return !first_; }
    void push(Request* r) {
        r->next = nullptr;
        (first_ ? last_->next : first_) = r;
        last_ = r;
    }
    Request* pop() {
        Request* r = first_;
        if (r)
            first_ = r->next;
        return r;
    }
    void append(RequestQueue& other) {
        if (other.empty())
            return;
        (first_ ? last_->next : first_) = other.first_;
        last_ = other.last_;
        other.first_ = nullptr;
    }

  private:
    Request* first_ = nullptr;
    Request* last_ = nullptr;
};

// Threading: one lane's own; grow() and for_each() under the lane's lock.
class RequestPool {
  public:
    RequestPool() = default;
    RequestPool(const RequestPool&) = delete;
    RequestPool& operator=(const RequestPool&) = delete;
    ~RequestPool();

    // False: no memory. More of both kinds; never fewer.
    bool grow(unsigned requests, unsigned large);

    Request* take() {
        Request* r = free_;
        if (r)
            free_ = r->next;
        return r;
    }
    void give(Request* r) {
        if (r->large) {
            large_.push_back(r->large);
            r->large = nullptr;
        }
        r->next = free_;
        free_ = r;
    }
    std::uint8_t* take_large() {
        if (large_.empty())
            return nullptr;
        std::uint8_t* p = large_.back(); // the one used last: it is still in the CPU's cache
        large_.pop_back();
        return p;
    }
    void give_large(std::uint8_t* p) { large_.push_back(p); }
    bool exhausted() const { return !free_; }
    bool has_large() const { return !large_.empty(); }

    template <class F>
    void for_each(F&& f) const {
        for (const auto& block : blocks_)
            for (unsigned i = 0; i < block.count; i++)
                f(block.requests[i]);
    }

  private:
    static void* map(std::size_t bytes);
    struct Block {
        std::unique_ptr<Request[]> requests;
        unsigned count;
        void* memory;
        std::size_t bytes;
    };
    std::vector<Block> blocks_;
    std::vector<std::uint8_t*> large_; // capacity for all: never allocates after grow()
    Request* free_ = nullptr;
    std::size_t large_total_ = 0;
};

} // namespace dek::shim
