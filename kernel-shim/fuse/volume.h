// SPDX-License-Identifier: Apache-2.0
// One volume: the device beneath, the endpoint, what the lanes read of it, and what they count.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <dek/ioctl.h>

#include "backing.h"
#include "base/fd.h"
#include "core.h"

namespace dek::shim {

constexpr unsigned kMaxLanes = 8;
using Clock = std::chrono::steady_clock;

// What one lane counts of one volume; only that lane writes, so plain stores do.
struct alignas(64) Counters {
    std::atomic<std::uint64_t> reads{0}, writes{0}, flushes{0}, read_bytes{0}, write_bytes{0},
        encrypted_bytes{0}, decrypted_bytes{0}, plain_bytes{0}, fence_hits{0}, refused{0},
        waited{0}, errors{0}, begun{0}, ended{0};
    // Requests of this lane that are queued until the next publication. The control thread reads it
    // after a grace period, so it changes under the lane's lock.
    std::atomic<std::uint32_t> waiting{0};

    static void add(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1) {
        counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
};

struct EndpointDeleter {
    void operator()(dek_endpoint* endpoint) const { dek_endpoint_destroy(endpoint); }
};

// Threading: the control thread owns it and everything about the endpoint; lanes read `snapshot`,
// `epoch`, `sectors`, the constants, and write their own counters.
struct Volume {
    unsigned slot = 0;
    dek_ioc_volume
        config{}; // as created; count, fence and flags: the present ones (control thread)
    std::uint64_t restarts = 0;
    std::uint64_t flushes_unknown = 0;     // lost with earlier workers
    std::uint32_t* flush_failed = nullptr; // in the volume table
    std::uint32_t* flushes = nullptr;      // in the volume table

    Backing backing; // fd -1: the device is gone or another one, and every request fails
    std::vector<Fd> fuse;
    std::unique_ptr<dek_endpoint, EndpointDeleter> endpoint;
    std::optional<Clock::time_point> recover_until; // while keys of an earlier life are waited for
    bool mapped = false;                            // the table knows that it had a map

    std::atomic<const dek_snapshot*> snapshot{nullptr};
    std::atomic<std::uint64_t> epoch{1};      // raised after each publication
    std::atomic<std::uint64_t> sectors{0};    // length
    std::atomic<std::uint64_t> generation{0}; // of the snapshot, for events
    std::uint64_t first = 0;                  // sector of the device where it begins
    std::uint32_t logical_block = 512;
    std::uint32_t data_unit = 512;
    bool read_only = false;
    std::atomic<std::int64_t> last_fence_event{-1}; // seconds; one event a second

    std::array<Counters, kMaxLanes> counters;

    std::string name() const { return config.name; }
    // A flush has failed, in this life or an earlier one. Any thread.
    std::atomic_ref<std::uint32_t> failed_flush() const { return std::atomic_ref(*flush_failed); }
    // Flushes begun whose result is not noted. Any thread.
    std::atomic_ref<std::uint32_t> open_flushes() const { return std::atomic_ref(*flushes); }
    bool waiting() const {
        for (const Counters& c : counters)
            if (c.waiting.load(std::memory_order_relaxed))
                return true;
        return false;
    }
};

// A new life of a volume. NULL: out of memory or a configuration the core refuses.
std::shared_ptr<Volume> make_volume(unsigned slot, const dek_ioc_volume& config, Backing backing,
                                    bool recovering, const dek_engine_ops* ops,
                                    std::uint32_t recover_ms);

// The sum of all lanes.
void sum_counters(const Volume& volume, dek_ioc_stats& out);

// Each key has a page of its own, and a process may have some 65,000 mappings in all.
constexpr std::uint32_t kMaxAssociations = 4096;
constexpr std::uint32_t kMaxRanges = 1u << 20;

} // namespace dek::shim
