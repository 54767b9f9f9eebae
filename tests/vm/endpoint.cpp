// SPDX-License-Identifier: Apache-2.0
// A controller for shell scripts in a virtual machine: one call of the ioctl interface, or a small
// storm of them.
//   vm_endpoint UUID COMMAND...
// Ranges are FIRST+COUNT in LBAs of the device. Keys: key.h.
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <dek/codec.h>
#include <dek/ioctl.h>

#include "key.h"

namespace {

using Arguments = std::vector<std::string>;

std::array<std::uint8_t, DEK_UUID_SIZE> uuid;
int control = -1;

void parse_uuid(std::string text) {
    std::erase(text, '-');
    if (text.size() != 32)
        throw std::runtime_error("no UUID: " + text);
    for (std::size_t i = 0; i < uuid.size(); i++)
        uuid[i] = hex_byte(text, 2 * i);
}

dek_range parse_range(const std::string& text) {
    const auto plus = text.find('+');
    return {std::stoull(text.substr(0, plus)), std::stoull(text.substr(plus + 1))};
}

std::vector<dek_range> parse_ranges(const Arguments& a, std::size_t from) {
    std::vector<dek_range> ranges;
    for (std::size_t i = from; i < a.size(); i++)
        ranges.push_back(parse_range(a[i]));
    return ranges;
}

template <class T>
T argument() {
    T t{};
    std::copy(uuid.begin(), uuid.end(), t.uuid);
    return t;
}

template <class T>
void call(unsigned long number, T& t, const char* what) {
    if (::ioctl(control, number, &t) < 0)
        throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

std::uint32_t send(std::uint8_t block[DEK_BLOCK_SIZE]) {
    auto c = argument<dek_ioc_command>();
    dek_block_seal(block);
    std::memcpy(c.block, block, DEK_BLOCK_SIZE);
    call(DEK_IOC_COMMAND, c, "command");
    std::memcpy(block, c.block, DEK_BLOCK_SIZE);
    return dek_get_le32(block + offsetof(dek_wire_header, status));
}

std::uint64_t endpoint_id() {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE], random[768]{1, 2, 3};
    dek_block_begin(block, DEK_OP_HANDSHAKE, 0, 7);
    dek_block_handshake(block, DEK_CLASS_EHBA, random);
    if (send(block) != DEK_OK)
        throw std::runtime_error("the handshake fails");
    return dek_get_le64(block + offsetof(dek_wire_header, endpoint_id));
}

// query RANGE...: whether they could be encrypted now
void do_query(const Arguments& a) {
    const std::uint64_t id = endpoint_id();
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE];
    dek_block_begin(block, DEK_OP_QUERY, id, 7);
    const std::vector<dek_range> ranges = parse_ranges(a, 0);
    dek_block_query(block, ranges.data(), static_cast<__u32>(ranges.size()));
    if (const std::uint32_t status = send(block); status != DEK_OK)
        throw std::runtime_error("query: status " + std::to_string(status));
}

// Handle of the association; `handle` 0 makes one.
std::uint64_t associate(std::uint64_t id, std::uint32_t opcode, std::uint64_t handle,
                        const Key& key, const dek_geometry& g,
                        const std::vector<dek_range>& ranges) {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE];
    const Blob blob(key, id);
    dek_block_begin(block, opcode, id, 7);
    if (dek_block_associate(block, handle, blob.view(), "vm", 2, &g, ranges.data(),
                            static_cast<__u32>(ranges.size())) != DEK_OK)
        throw std::runtime_error("the block does not fit");
    if (const std::uint32_t status = send(block); status != DEK_OK)
        throw std::runtime_error("associate: status " + std::to_string(status));
    return dek_get_le64(block + offsetof(dek_wire_associate, association));
}

dek_geometry geometry(const std::string& unit, const std::string& rule,
                      const std::string& device_origin, const std::string& logical_origin) {
    dek_geometry g{};
    g.data_unit = static_cast<__u32>(std::stoul(unit));
    g.tweak_rule = rule == "unit" ? DEK_TWEAK_UNIT : DEK_TWEAK_LBA512;
    g.device_origin = std::stoull(device_origin);
    g.logical_origin = std::stoull(logical_origin);
    return g;
}

void map_page(std::uint64_t generation, std::uint32_t flags,
              const std::vector<dek_map_entry>& entries) {
    auto m = argument<dek_ioc_map>();
    m.generation = generation;
    m.flags = flags;
    m.count = static_cast<__u32>(entries.size());
    std::copy(entries.begin(), entries.end(), m.entry);
    call(DEK_IOC_MAP, m, "map");
}

// map GENERATION [FIRST+COUNT | reserved:FIRST+COUNT]...
void do_map(const Arguments& a) {
    std::vector<dek_map_entry> entries;
    for (std::size_t i = 1; i < a.size(); i++) {
        const bool reserved = a[i].starts_with("reserved:");
        const dek_range r = parse_range(reserved ? a[i].substr(9) : a[i]);
        entries.push_back({r.first, r.count, reserved ? DEK_MAP_RESERVED : DEK_MAP_ENCRYPT, 0});
    }
    map_page(std::stoull(a.at(0)), DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT, entries);
}

// associate KEY UNIT unit|lba512 DEVICE-ORIGIN LOGICAL-ORIGIN RANGE...; prints the handle
void do_associate(const Arguments& a) {
    const dek_geometry g = geometry(a.at(1), a.at(2), a.at(3), a.at(4));
    std::printf("%llu\n",
                static_cast<unsigned long long>(associate(endpoint_id(), DEK_OP_ASSOCIATE, 0,
                                                          parse_key(a[0]), g, parse_ranges(a, 5))));
}

// update HANDLE and as associate
void do_update(const Arguments& a) {
    const dek_geometry g = geometry(a.at(2), a.at(3), a.at(4), a.at(5));
    associate(endpoint_id(), DEK_OP_UPDATE, std::stoull(a[0]), parse_key(a[1]), g,
              parse_ranges(a, 6));
}

void do_disassociate(const Arguments& a) {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE];
    dek_block_begin(block, DEK_OP_DISASSOCIATE, endpoint_id(), 7);
    dek_block_disassociate(block, std::stoull(a.at(0)));
    if (const std::uint32_t status = send(block); status != DEK_OK)
        throw std::runtime_error("disassociate: status " + std::to_string(status));
}

std::uint64_t quiesce(dek_range range) {
    auto q = argument<dek_ioc_quiesce>();
    q.first = range.first;
    q.count = range.count;
    call(DEK_IOC_QUIESCE, q, "quiesce");
    return q.token;
}

void release(std::uint64_t token) {
    auto r = argument<dek_ioc_release>();
    r.token = token;
    call(DEK_IOC_RELEASE, r, "release");
}

// quiesce FIRST+COUNT; prints the token
void do_quiesce(const Arguments& a) {
    std::printf("%llu\n", static_cast<unsigned long long>(quiesce(parse_range(a.at(0)))));
}

void do_release(const Arguments& a) {
    release(std::stoull(a.at(0)));
}

// yield FIRST+COUNT [TOKEN], under a token of its own if none is given
void do_yield(const Arguments& a) {
    auto y = argument<dek_ioc_yield>();
    const dek_range range = parse_range(a.at(0));
    y.token = a.size() > 1 ? std::stoull(a[1]) : quiesce(range);
    y.first = range.first;
    y.count = range.count;
    call(DEK_IOC_YIELD, y, "yield");
    if (a.size() == 1)
        release(y.token);
}

// fence eio|transport|hold
void do_fence(const Arguments& a) {
    auto f = argument<dek_ioc_fence>();
    f.fence = a.at(0) == "hold"     ? DEK_FENCE_HOLD
              : a[0] == "transport" ? DEK_FENCE_TRANSPORT
                                    : DEK_FENCE_EIO;
    call(DEK_IOC_FENCE, f, "fence");
}

// NAME=VALUE lines, for `eval`
void do_stats(const Arguments&) {
    auto s = argument<dek_ioc_stats>();
    call(DEK_IOC_STATS, s, "stats");
    const auto line = [](const char* name, std::uint64_t value) {
        std::printf("%s=%llu\n", name, static_cast<unsigned long long>(value));
    };
    line("reads", s.reads);
    line("writes", s.writes);
    line("flushes", s.flushes);
    line("encrypted_bytes", s.encrypted_bytes);
    line("decrypted_bytes", s.decrypted_bytes);
    line("plain_bytes", s.plain_bytes);
    line("fence_hits", s.fence_hits);
    line("refused", s.refused);
    line("waited", s.waited);
    line("waiting", s.waiting);
    line("errors", s.errors);
    line("in_flight", s.in_flight);
}

// As the table says: one line of the endpoint. ENOENT when there is none.
void do_list(const Arguments&) {
    dek_ioc_list list{};
    call(DEK_IOC_LIST, list, "list");
    for (unsigned i = 0; i < list.count; i++) {
        const dek_list_entry& e = list.entry[i];
        if (std::equal(uuid.begin(), uuid.end(), e.uuid)) {
            std::printf("%s %s %llu+%llu unit %u block %u associations %u ranges %llu engine %u "
                        "fence %u\n",
                        e.name, e.device, static_cast<unsigned long long>(e.first),
                        static_cast<unsigned long long>(e.count), e.data_unit, e.logical_block,
                        e.associations, static_cast<unsigned long long>(e.ranges), e.engine,
                        e.fence);
            return;
        }
    }
    throw std::runtime_error("not in the list");
}

constexpr struct {
    const char* name;
    std::uint32_t engine;
} engines[] = {{"off", 0},
               {"cpu", DEK_ENGINE_CPU},
               {"accel", DEK_ENGINE_ACCEL},
               {"inline", DEK_ENGINE_INLINE}};

void set_engine(const std::string& name) {
    auto e = argument<dek_ioc_engine>();
    for (const auto& known : engines)
        if (name == known.name) {
            e.engine = known.engine;
            call(DEK_IOC_ENGINE, e, "engine");
            return;
        }
    throw std::runtime_error("no engine " + name);
}

// engine [off|cpu|accel|inline]: without a name prints the one in use
void do_engine(const Arguments& a) {
    if (!a.empty()) {
        set_engine(a[0]);
        return;
    }
    dek_ioc_list list{};
    call(DEK_IOC_LIST, list, "list");
    for (unsigned i = 0; i < list.count; i++) {
        const dek_list_entry& e = list.entry[i];
        if (!std::equal(uuid.begin(), uuid.end(), e.uuid))
            continue;
        for (const auto& known : engines)
            if (e.engine == known.engine)
                std::puts(known.name);
    }
}

void do_version(const Arguments&) {
    dek_ioc_version v{};
    call(DEK_IOC_VERSION, v, "version");
    std::printf("%s\n", v.engine_name);
}

// install N FIRST STEP COUNT KEY: N ranges of COUNT LBAs, each STEP after the last, all keyed;
// prints the seconds
void do_install(const Arguments& a) {
    const std::uint64_t n = std::stoull(a.at(0)), step = std::stoull(a.at(2)),
                        count = std::stoull(a.at(3));
    const Key key = parse_key(a.at(4));
    const std::uint64_t id = endpoint_id();
    const dek_geometry g{4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    std::uint64_t at = std::stoull(a.at(1));
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t done = 0; done < n;) {
        std::vector<dek_range> ranges;
        for (; ranges.size() < DEK_MAX_RANGES - 5 && done < n; done++, at += step)
            ranges.push_back({at, count});
        associate(id, DEK_OP_ASSOCIATE, 0, key, g, ranges);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%.4f\n", seconds.count());
}

// storm SECONDS HANDLE KEY UNIT RULE DEVICE-ORIGIN LOGICAL-ORIGIN USED SPARE...: quiesces and
// releases parts of the range USED, and updates the association to USED with another of the SPAREs
// each time. Prints how often.
void do_storm(const Arguments& a) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::stoul(a.at(0)));
    const dek_geometry g = geometry(a.at(3), a.at(4), a.at(5), a.at(6));
    const auto ranges = parse_ranges(a, 7);
    const std::uint64_t handle = std::stoull(a[1]), id = endpoint_id();
    const Key key = parse_key(a[2]);
    std::mt19937 random(1);
    unsigned updates = 0, holds = 0;
    while (std::chrono::steady_clock::now() < end) {
        const dek_range& used = ranges[0];
        const std::uint64_t first = random() % (used.count / 8) * 8, most = used.count - first;
        const std::uint64_t token = quiesce({used.first + first, 1 + random() % most});
        holds++;
        if (random() % 2)
            ::usleep(random() % 3000);
        release(token);
        associate(id, DEK_OP_UPDATE, handle, key, g,
                  {used, ranges[1 + updates++ % (ranges.size() - 1)]});
    }
    std::printf("%u updates, %u holds\n", updates, holds);
}

struct Command {
    const char* name;
    void (*run)(const Arguments&);
};
constexpr Command commands[] = {
    {"map", do_map},         {"associate", do_associate},
    {"update", do_update},   {"disassociate", do_disassociate},
    {"quiesce", do_quiesce}, {"release", do_release},
    {"yield", do_yield},     {"fence", do_fence},
    {"stats", do_stats},     {"list", do_list},
    {"version", do_version}, {"engine", do_engine},
    {"install", do_install}, {"storm", do_storm},
    {"query", do_query},
};

} // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fputs("usage: vm_endpoint UUID COMMAND...\n", stderr);
        return 2;
    }
    try {
        parse_uuid(argv[1]);
        control = ::open("/dev/dek-control", O_RDWR | O_CLOEXEC);
        if (control < 0)
            throw std::runtime_error("no /dev/dek-control");
        for (const Command& c : commands) {
            if (std::strcmp(c.name, argv[2]) == 0) {
                c.run(Arguments(argv + 3, argv + argc));
                return 0;
            }
        }
        throw std::runtime_error(std::string("no command ") + argv[2]);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_endpoint: %s\n", e.what());
        return 1;
    }
}
