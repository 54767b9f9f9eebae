// SPDX-License-Identifier: Apache-2.0
// Hostile arguments for every call of the ioctl interface, against two volumes without devices.
// Input: any number of calls, each {call, flags, length (2, little-endian), bytes}; the argument is
// the bytes and then zeros. Flags: 1 the first volume's UUID, 2 the second's, 4 a command block
// with its signature, checksum and endpoint ID put right, 8 I/O is under way, 16 interrupt what
// waits.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "dispatcher.h"
#include "engine.h"

using namespace dek::shim;

namespace {

void demand(bool holds) {
    if (!holds)
        __builtin_trap();
}

class World : public Host {
  public:
    bool busy = false;
    int create(const dek_ioc_volume& config, std::shared_ptr<Volume>& out) override {
        const std::uint64_t block = config.logical_block / 512;
        if (!block || !config.count || config.count > 1u << 20 || config.offset > 1u << 20)
            return EINVAL;
        dek_ioc_volume checked = config;
        checked.name[DEK_NAME_SIZE - 1] = checked.device[DEK_PATH_SIZE - 1] = 0;
        out = make_volume(0, checked, {}, false, engine_ops(), 0);
        return out ? 0 : EINVAL;
    }
    int remove(Volume&) override { return busy ? EBUSY : 0; }
    int check_length(const Volume&, std::uint64_t count) override {
        return count && count < 1u << 20 ? 0 : EINVAL;
    }
    void resized(Volume&) override {}
    void fence_changed(Volume&) override {}
    void engine_changed(Volume&) override {}
    void has_map(Volume& volume) override { volume.mapped = true; }
    void grace() override {}
    void wake_waiting() override {}
    bool under_way(const Volume&, std::uint64_t, const dek_range&) override { return busy; }
};

constexpr std::uint32_t kCalls[] = {
    DEK_IOC_VERSION, DEK_IOC_COMMAND,         DEK_IOC_MAP,           DEK_IOC_QUIESCE,
    DEK_IOC_RELEASE, DEK_IOC_YIELD,           DEK_IOC_FENCE,         DEK_IOC_LIST,
    DEK_IOC_RANGES,  DEK_IOC_ASSOCIATIONS,    DEK_IOC_TOKENS,        DEK_IOC_STATS,
    DEK_IOC_EVENTS,  DEK_IOC_VOLUME_CREATE,   DEK_IOC_VOLUME_REMOVE, DEK_IOC_VOLUME_RESIZE,
    DEK_IOC_ENGINE,  DEK_IOC_TYPE << 8 | 0x7f};

std::uint8_t uuid_byte(std::uint8_t flags) {
    return flags & 1 ? 0xa1 : flags & 2 ? 0xa2 : 0;
}

// What must hold of a volume at any time: its ranges are in order, inside, and keyed ones have a
// key.
void examine(const Volume& v) {
    const dek_snapshot* s = v.snapshot;
    std::uint64_t at = 0;
    dek_range_entry e;
    while (dek_snapshot_next(s, at, &e)) {
        demand(e.count && e.first >= at && e.first >= v.config.offset &&
               e.first + e.count <= v.config.offset + v.config.count);
        dek_piece piece;
        dek_snapshot_lookup(s, e.first, e.count, true, &piece);
        demand(piece.count >= 1 && piece.count <= e.count);
        demand(piece.verdict != DEK_CRYPT || (e.state == DEK_RANGE_KEYED && piece.association));
        demand(piece.verdict != DEK_PASS || e.state == DEK_RANGE_YIELDED);
        at = e.first + e.count;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const bool started = start_engine("openssl").has_value();
    demand(started);
    World world;
    EventRing events;
    Dispatcher dispatcher(world, events, {}, [](auto, int, auto) {});
    for (const std::uint8_t id : {0xa1, 0xa2}) {
        dek_ioc_volume v{};
        v.uuid[0] = id;
        v.count = 65536;
        v.data_unit = id == 0xa1 ? 4096 : 512;
        v.logical_block = 4096;
        std::shared_ptr<Volume> volume;
        demand(world.create(v, volume) == 0);
        dispatcher.add(volume);
    }
    std::uint64_t ticket = 0;
    std::vector<std::uint8_t> argument;
    while (size >= 4) {
        const std::uint32_t call = kCalls[data[0] % std::size(kCalls)];
        const std::uint8_t flags = data[1];
        std::size_t length = dek_get_le16(data + 2);
        data += 4;
        size -= 4;
        length = std::min(length, size);
        argument.assign(_IOC_SIZE(call), 0);
        std::copy_n(data, std::min(length, argument.size()), argument.begin());
        data += length;
        size -= length;
        if (argument.size() >= DEK_UUID_SIZE && uuid_byte(flags)) {
            std::memset(argument.data(), 0, DEK_UUID_SIZE);
            argument[0] = uuid_byte(flags);
        }
        if (call == DEK_IOC_COMMAND && (flags & 4)) {
            std::uint8_t* block = argument.data() + DEK_UUID_SIZE;
            for (const auto& [uuid, volume] : dispatcher.volumes())
                if (uuid[0] == argument[0])
                    dek_put_le64(block + 32, dek_endpoint_id(volume->endpoint.get()));
            dek_put_le64(block, DEK_SIGNATURE);
            dek_block_seal(block);
        }
        world.busy = flags & 8;
        dispatcher.call({0, flags, ++ticket}, call, argument);
        if (flags & 16)
            dispatcher.interrupt(ticket - (data[-1] & 3));
        dispatcher.tick();
        for (const auto& [uuid, volume] : dispatcher.volumes())
            examine(*volume);
    }
    world.busy = false;
    dispatcher.tick();
    demand(dispatcher.watched() == 0);
    return 0;
}
