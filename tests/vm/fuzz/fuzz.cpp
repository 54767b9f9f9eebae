// SPDX-License-Identifier: Apache-2.0
// Two mapped devices and three UUIDs, so that endpoints are shared, refused and made anew. What the
// processes know of each other's handles and tokens they learn from the lists.
#include "fuzz.h"

#include "mapper.h"
#include "mutator.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t length = 65536; // sectors of a volume
constexpr unsigned devices = 2, controllers = 3, writers = 2;
constexpr const char* names[] = {"table",     "resume",  "suspend",   "raw ioctl", "broken block",
                                 "handshake", "query",   "associate", "update",    "disassociate",
                                 "map",       "quiesce", "release",   "yield",     "fence",
                                 "list",      "read",    "write"};
enum Kind {
    TABLE,
    RESUME,
    SUSPEND,
    RAW,
    BROKEN,
    HANDSHAKE,
    QUERY,
    ASSOCIATE,
    UPDATE,
    DISASSOCIATE,
    MAP,
    QUIESCE,
    RELEASE,
    YIELD,
    FENCE,
    LIST,
    READ,
    WRITE,
    KINDS
};

// In memory that all processes share.
struct Counts {
    std::array<std::atomic<std::uint64_t>, KINDS> good, refused;
    void note(Kind kind, bool ok) { (ok ? good : refused)[kind]++; }
};

Uuid uuid_of(unsigned n) {
    return {0xde, 0xc0, 0xde, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, static_cast<std::uint8_t>(n)};
}

std::string table(unsigned uuid, unsigned device, std::uint64_t offset, unsigned unit) {
    char text[120];
    std::snprintf(text, sizeof text, "dec0dec0-0000-0000-0000-0000000001%02x /dev/ram%u %llu %u",
                  uuid, device, static_cast<unsigned long long>(offset), unit);
    return text;
}

class Controller {
  public:
    Controller(std::uint64_t seed, Counts& counts) : random_(seed), counts_(counts) {
        for (unsigned i = 0; i < devices; i++)
            mappers_.push_back(std::make_unique<Mapper>("fuzz" + std::to_string(i)));
        for (unsigned i = 0; i < devices + 1; i++)
            clients_.push_back(std::make_unique<Client>(uuid_of(i)));
    }

    void step() {
        using Action = void (Controller::*)();
        static constexpr Action actions[] = {
            &Controller::load,      &Controller::resume,       &Controller::suspend,
            &Controller::raw,       &Controller::broken,       &Controller::identify,
            &Controller::query,     &Controller::associate,    &Controller::associate,
            &Controller::associate, &Controller::update,       &Controller::update,
            &Controller::update,    &Controller::disassociate, &Controller::map,
            &Controller::quiesce,   &Controller::release,      &Controller::release,
            &Controller::release,   &Controller::yield,        &Controller::fence,
            &Controller::list};
        client_ = clients_[random_.below(random_.chance(90) ? devices : devices + 1)].get();
        if (random_.chance(20))
            learn();
        (this->*actions[random_.below(std::size(actions))])();
    }

  private:
    Mapper& mapper() { return *mappers_[random_.below(devices)]; }
    Ranges ranges(std::size_t most) {
        return random_.ranges(most, length, random_.chance(95) ? 8 : 1);
    }
    std::uint64_t handle() {
        return handles_.empty() || random_.chance(5) ? random_.number()
                                                     : handles_[random_.below(handles_.size())];
    }
    std::uint64_t token() {
        return tokens_.empty() || random_.chance(5) ? random_.number()
                                                    : tokens_[random_.below(tokens_.size())];
    }

    // The endpoint as it is now: ID, handles, tokens, generation.
    void learn() {
        auto a = std::make_unique<dek_ioc_associations>();
        auto t = std::make_unique<dek_ioc_tokens>();
        std::memcpy(a->uuid, client_->uuid().data(), DEK_UUID_SIZE);
        std::memcpy(t->uuid, client_->uuid().data(), DEK_UUID_SIZE);
        client_->handshake(id_);
        handles_.clear();
        tokens_.clear();
        if (client_->raw(DEK_IOC_ASSOCIATIONS, a.get()) == 0)
            for (unsigned i = 0; i < a->count; i++)
                handles_.push_back(a->entry[i].handle);
        if (client_->raw(DEK_IOC_TOKENS, t.get()) == 0)
            for (unsigned i = 0; i < t->count; i++)
                tokens_.push_back(t->entry[i].token);
    }

    void load() {
        const unsigned device = static_cast<unsigned>(random_.below(devices));
        std::string text = table(random_.chance(90) ? device : device + 1, device, 0, 4096);
        if (random_.chance(20))
            text += random_.chance(50) ? " 1 allow_discards" : " 2 fence:hold allow_discards";
        const bool broken = random_.chance(60);
        if (broken)
            text = random_.text(text);
        const std::uint64_t size = random_.chance(80)   ? length
                                   : random_.chance(50) ? length - 8 * random_.below(99)
                                                        : random_.number();
        counts_.note(TABLE, mappers_[device]->load(random_.chance(95) ? 0 : random_.number(), size,
                                                   text) == 0);
        if (random_.chance(10))
            mappers_[device]->clear();
        mappers_[device]->status(random_.chance(50));
    }

    void resume() { counts_.note(RESUME, mapper().resume() == 0); }

    // Never for long: what is suspended stops the others.
    void suspend() {
        Mapper& m = mapper();
        counts_.note(SUSPEND, m.suspend(random_.chance(50)) == 0);
        m.resume();
    }

    // A call's number and size as they should be or not, its bytes mostly noise.
    void raw() {
        static constexpr unsigned long calls[] = {
            DEK_IOC_VERSION, DEK_IOC_COMMAND,       DEK_IOC_MAP,    DEK_IOC_QUIESCE,
            DEK_IOC_RELEASE, DEK_IOC_YIELD,         DEK_IOC_FENCE,  DEK_IOC_LIST,
            DEK_IOC_RANGES,  DEK_IOC_ASSOCIATIONS,  DEK_IOC_TOKENS, DEK_IOC_STATS,
            DEK_IOC_EVENTS,  DEK_IOC_VOLUME_CREATE, DEK_IOC_ENGINE};
        alignas(8) static std::uint8_t buffer[1 << 16];
        unsigned long number = calls[random_.below(std::size(calls))];
        std::memset(buffer, random_.chance(70) ? 0 : 0xff, sizeof buffer);
        if (random_.chance(80))
            std::memcpy(buffer, client_->uuid().data(), DEK_UUID_SIZE);
        random_.bytes(buffer, _IOC_SIZE(number));
        if (number == DEK_IOC_QUIESCE) // nobody waits for long
            reinterpret_cast<dek_ioc_quiesce*>(buffer)->timeout_ms = 20;
        if (random_.chance(15))
            number ^= 1ul << random_.below(32);
        void* argument = random_.chance(95) ? buffer : reinterpret_cast<void*>(random_.number());
        counts_.note(RAW, client_->raw(number, argument) == 0);
    }

    // A block of any command with some bytes changed, its checksum right or not.
    void broken() {
        const std::uint32_t opcode = random_.chance(50) ? DEK_OP_ASSOCIATE : DEK_OP_UPDATE;
        Block block = associate_block(opcode, id_, opcode == DEK_OP_UPDATE ? handle() : 0, 5, 4096,
                                      DEK_TWEAK_UNIT, ranges(40));
        if (random_.chance(40))
            dek_put_le32(block.bytes + offsetof(dek_wire_header, opcode),
                         static_cast<std::uint32_t>(random_.below(8)));
        random_.bytes(block.bytes, random_.chance(50) ? 256 : DEK_BLOCK_SIZE);
        counts_.note(BROKEN, client_->send(block, random_.chance(95)) == DEK_OK);
    }

    void identify() { counts_.note(HANDSHAKE, client_->handshake(id_) == DEK_OK); }
    void query() { counts_.note(QUERY, client_->query(id_, ranges(60)) == DEK_OK); }

    void associate() {
        std::uint64_t handle = 0;
        counts_.note(ASSOCIATE,
                     client_->associate(id_, handle, static_cast<std::uint8_t>(random_.below(4)),
                                        ranges(20)) == DEK_OK);
        if (handle)
            handles_.push_back(handle);
    }

    void update() {
        std::uint64_t h = handle();
        counts_.note(UPDATE, client_->associate(id_, h, static_cast<std::uint8_t>(random_.below(4)),
                                                ranges(40), DEK_OP_UPDATE) == DEK_OK);
    }

    void disassociate() {
        counts_.note(DISASSOCIATE, client_->disassociate(id_, handle()) == DEK_OK);
    }

    // Mostly the whole volume, so that associations are not in the way.
    void map() {
        const Ranges all{{0, length}};
        const std::uint32_t flags = DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT;
        generation_ += random_.chance(95) ? 1 : random_.below(50);
        counts_.note(
            MAP,
            client_->map(generation_,
                         random_.chance(85) ? flags : static_cast<std::uint32_t>(random_.below(9)),
                         random_.chance(50) ? all : ranges(600)) == 0);
    }

    void quiesce() {
        std::uint64_t token = 0;
        const Ranges r = ranges(1);
        counts_.note(QUIESCE, client_->quiesce(r.at(0), 20, token) == 0);
        if (token)
            tokens_.push_back(token);
    }

    void release() { counts_.note(RELEASE, client_->release(token()) == 0); }

    void yield() {
        std::uint64_t token = 0;
        const Ranges r = ranges(1);
        if (client_->quiesce(r.at(0), 20, token) == 0) {
            counts_.note(YIELD, client_->yield(token, r[0]) == 0);
            client_->release(token);
        }
    }

    void fence() {
        counts_.note(FENCE, client_->fence(static_cast<std::uint32_t>(
                                random_.below(random_.chance(90) ? 3 : 9))) == 0);
    }

    // What the ranges say must always hold together.
    void list() {
        auto r = std::make_unique<dek_ioc_ranges>();
        std::memcpy(r->uuid, client_->uuid().data(), DEK_UUID_SIZE);
        const bool ok = client_->raw(DEK_IOC_RANGES, r.get()) == 0;
        counts_.note(LIST, ok);
        for (unsigned i = 1; ok && i < r->count; i++)
            if (r->entry[i].first < r->entry[i - 1].first + r->entry[i - 1].count)
                std::abort();
    }

    Mutator random_;
    Counts& counts_;
    std::vector<std::unique_ptr<Mapper>> mappers_;
    std::vector<std::unique_ptr<Client>> clients_;
    Client* client_ = nullptr;
    std::uint64_t id_ = 0, generation_ = 0;
    std::vector<std::uint64_t> handles_, tokens_;
};

[[noreturn]] void control(std::uint64_t seed, Counts& counts, Clock::time_point end) {
    Controller controller(seed, counts);
    while (Clock::now() < end)
        controller.step();
    ::_exit(0);
}

// Reads and writes of any size anywhere, straight to the device.
[[noreturn]] void transfer(const std::string& node, std::uint64_t seed, Counts& counts,
                           Clock::time_point end) {
    constexpr std::size_t most = 1 << 20;
    Mutator random(seed);
    void* buffer = std::aligned_alloc(4096, most);
    std::memset(buffer, 0x5a, most);
    while (Clock::now() < end) {
        const int file = ::open(node.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        for (unsigned i = 0; file >= 0 && i < 50 && Clock::now() < end; i++) {
            const std::size_t size = (1 + random.below(random.chance(80) ? 8 : 256)) * 4096;
            const auto at = static_cast<off_t>(random.below(length / 8) * 4096);
            const bool read = random.chance(50);
            const ssize_t done =
                read ? ::pread(file, buffer, size, at) : ::pwrite(file, buffer, size, at);
            counts.note(read ? READ : WRITE, done > 0);
        }
        if (file >= 0)
            ::close(file);
        else
            ::usleep(1000);
    }
    ::_exit(0);
}

template <class Body>
pid_t start(Body body) {
    const pid_t pid = ::fork();
    if (pid == 0)
        body();
    return pid;
}

// Waits for all, opening whatever holds them up. False: one died, or hangs.
bool join(std::vector<pid_t> pids, std::vector<std::unique_ptr<Mapper>>& mappers,
          Clock::time_point end) {
    bool good = true;
    while (!pids.empty() && Clock::now() < end) {
        for (auto& m : mappers)
            m->resume();
        for (unsigned i = 0; i < devices + 1; i++)
            Client(uuid_of(i)).let_go();
        for (int status = 0; const pid_t pid = ::waitpid(-1, &status, WNOHANG);) {
            if (pid < 0)
                break;
            std::erase(pids, pid);
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                std::fprintf(stderr, "a process of the fuzzer died: %x\n",
                             static_cast<unsigned>(status));
                good = false;
            }
        }
        ::usleep(100000);
    }
    if (!pids.empty())
        std::fprintf(stderr, "%zu processes of the fuzzer hang\n", pids.size());
    return good && pids.empty();
}

bool report(const Counts& counts) {
    bool good = true;
    for (unsigned i = 0; i < KINDS; i++) {
        const auto ok = counts.good[i].load(), refused = counts.refused[i].load();
        std::printf("%-14s %8llu went well, %8llu did not\n", names[i],
                    static_cast<unsigned long long>(ok), static_cast<unsigned long long>(refused));
        good = good && ok > 0;
    }
    return good;
}

} // namespace

bool fuzz(unsigned seconds, std::uint64_t seed) {
    void* shared =
        ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* counts = new (shared) Counts{};
    std::vector<std::unique_ptr<Mapper>> mappers;
    std::vector<pid_t> pids;
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    for (unsigned i = 0; i < devices; i++) {
        mappers.push_back(std::make_unique<Mapper>("fuzz" + std::to_string(i)));
        if (mappers[i]->create() || mappers[i]->load(0, length, table(i, i, 0, 4096)) ||
            mappers[i]->resume())
            return false;
    }
    for (unsigned i = 0; i < controllers; i++)
        pids.push_back(start([&] { control(seed * 100 + i, *counts, end); }));
    for (unsigned i = 0; i < writers; i++)
        pids.push_back(start(
            [&] { transfer(mappers[i % devices]->node(), seed * 100 + 50 + i, *counts, end); }));
    while (Clock::now() < end) // what holds I/O up is opened now and then, for the writers to go on
    {
        ::sleep(1);
        for (unsigned i = 0; i < devices; i++)
            Client(uuid_of(i)).let_go();
    }
    bool good = join(pids, mappers, end + std::chrono::seconds(60));
    good = report(*counts) && good;
    for (auto& m : mappers)
        if (m->remove()) {
            std::fprintf(stderr, "a mapped device cannot be removed\n");
            good = false;
        }
    return good;
}
