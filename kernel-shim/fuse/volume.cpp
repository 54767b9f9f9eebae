// SPDX-License-Identifier: Apache-2.0
#include "volume.h"

#include <algorithm>
#include <cstring>

namespace dek::shim {

std::shared_ptr<Volume> make_volume(unsigned slot, const dek_ioc_volume& config, Backing backing,
                                    bool recovering, const dek_engine_ops* ops,
                                    std::uint32_t recover_ms) {
    dek_endpoint_config c{};
    std::memcpy(c.uuid, config.uuid, sizeof(c.uuid));
    c.first = config.offset;
    c.count = config.count;
    c.data_unit = config.data_unit;
    c.block = std::max(config.data_unit, backing.logical_block); // where I/O to it may be cut
    c.class_name = DEK_CLASS_EHBA;
    c.fence = static_cast<dek_fence>(config.fence);
    c.engine = config.flags & DEK_VOLUME_NO_ENGINE ? 0 : DEK_ENGINE_CPU;
    c.recovering = recovering;
    c.max_associations = kMaxAssociations;
    c.max_ranges = kMaxRanges;
    c.ops = ops;
    auto volume = std::make_shared<Volume>();
    volume->endpoint.reset(dek_endpoint_create(&c));
    if (!volume->endpoint)
        return nullptr;
    volume->backing = std::move(backing);
    volume->slot = slot;
    volume->config = config;
    volume->first = config.offset;
    volume->sectors = config.count;
    volume->logical_block = config.logical_block;
    volume->data_unit = config.data_unit;
    volume->read_only = config.flags & DEK_VOLUME_READONLY;
    volume->snapshot = dek_endpoint_current(volume->endpoint.get());
    volume->mapped = recovering;
    if (recovering) {
        const auto ms =
            std::chrono::milliseconds(config.recover_ms ? config.recover_ms : recover_ms);
        volume->recover_until = Clock::now() + ms;
    }
    return volume;
}

void sum_counters(const Volume& volume, dek_ioc_stats& out) {
    std::uint64_t begun = 0, ended = 0;
    for (const Counters& c : volume.counters) {
        out.reads += c.reads;
        out.writes += c.writes;
        out.flushes += c.flushes;
        out.read_bytes += c.read_bytes;
        out.write_bytes += c.write_bytes;
        out.encrypted_bytes += c.encrypted_bytes;
        out.decrypted_bytes += c.decrypted_bytes;
        out.plain_bytes += c.plain_bytes;
        out.fence_hits += c.fence_hits;
        out.refused += c.refused;
        out.waited += c.waited;
        out.waiting += c.waiting;
        out.errors += c.errors;
        ended += c.ended;
        begun += c.begun;
    }
    out.in_flight = begun - ended;
    out.restarts = volume.restarts;
    out.flushes_unknown = volume.flushes_unknown;
}

} // namespace dek::shim
