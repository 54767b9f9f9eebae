// SPDX-License-Identifier: Apache-2.0
// Changes under I/O: what drains, what is atomic, what is interrupted.
#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caller.h"

using namespace conformance;
using namespace std::chrono_literals;

namespace {

Association an_association(std::vector<dek_range> ranges, unsigned seed = 1) {
    Association a;
    a.key = test_key(64, seed);
    a.ranges = std::move(ranges);
    return a;
}

// A write that is on the device for a while: begun when this returns.
class SlowWrite {
  public:
    SlowWrite(Volume& v, std::uint64_t sector, const Bytes& data)
        : thread_([this, &v, sector, data] {
              result = v.write(sector, data);
              ended = std::chrono::steady_clock::now();
              done = true;
          }) {
        while (v.stats().in_flight == 0)
            std::this_thread::sleep_for(1ms);
    }
    ~SlowWrite() { thread_.join(); }
    // Its thread may be told a little after whoever waited for the I/O; far less than the device's
    // delay.
    bool has_ended() const {
        for (int i = 0; i < 100 && !done; i++)
            std::this_thread::sleep_for(1ms);
        return done;
    }
    std::atomic<int> result{-1};
    std::atomic<bool> done{false};
    std::chrono::steady_clock::time_point ended;

  private:
    std::thread thread_;
};

void ignore_signal(int) {}

} // namespace

TEST_CASE("Disassociate and Update answer when the I/O begun before them has ended") {
    Volume v({.delay_ms = 300});
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}});
    REQUIRE(v.associate(a) == DEK_OK);
    const Bytes data = pattern(4096, 1);
    {
        SlowWrite write(v, 0, data);
        Association moved = a;
        moved.ranges = {{128, 64}};
        REQUIRE(v.associate(moved, DEK_OP_UPDATE) == DEK_OK);
        CHECK(write.has_ended());
        CHECK(write.result == 0);
    }
    CHECK(v.on_device(0, 8) == expected(a, 0, data)); // under the old key, all of it
    {
        SlowWrite write(v, 128, data);
        REQUIRE(v.disassociate(a.handle) == DEK_OK);
        CHECK(write.has_ended());
        CHECK(write.result == 0);
    }
    CHECK(v.write(128, data) == EIO);
}

TEST_CASE("changes elsewhere do not wait for I/O they do not concern") {
    Volume v({.delay_ms = 300});
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}}), b = an_association({{512, 64}}, 2);
    REQUIRE(v.associate(a) == DEK_OK);
    SlowWrite write(v, 0, pattern(4096, 1));
    REQUIRE(v.associate(b) == DEK_OK);
    REQUIRE(v.disassociate(b.handle) == DEK_OK);
    std::uint64_t token = 0;
    REQUIRE(v.quiesce(2048, 64, token) == 0);
    REQUIRE(v.release(token) == 0);
    CHECK_FALSE(write.done);
}

TEST_CASE("a quiesce waits for what is under way, or gives up and holds nothing") {
    Volume v({.delay_ms = 300});
    REQUIRE(v.map(1, {}) == 0);
    std::uint64_t token = 0;
    {
        SlowWrite write(v, 64, pattern(4096, 1));
        CHECK(v.quiesce(0, 128, token, 20) == ETIMEDOUT);
        CHECK_FALSE(write.done);
        CHECK(v.tokens().empty());
    }
    {
        SlowWrite write(v, 64, pattern(4096, 1));
        REQUIRE(v.quiesce(0, 128, token) == 0);
        CHECK(write.has_ended());
    }
    REQUIRE(v.release(token) == 0);
}

TEST_CASE("a new map waits for I/O on what changes") {
    Volume v({.delay_ms = 200});
    REQUIRE(v.map(1, {}) == 0);
    SlowWrite write(v, 0, pattern(4096, 1));
    REQUIRE(v.map(2, {{0, 64}}) == 0);
    CHECK(write.has_ended());
    CHECK(write.result == 0);
    CHECK(v.write(0, pattern(4096, 1)) == EIO);
}

TEST_CASE("a caller that is interrupted gets EINTR, and the command goes on when sent again") {
    Volume v({.delay_ms = 600});
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}});
    REQUIRE(v.associate(a) == DEK_OK);
    struct sigaction action {};
    action.sa_handler = ignore_signal; // without SA_RESTART
    ::sigaction(SIGUSR1, &action, nullptr);
    SlowWrite write(v, 0, pattern(4096, 1));
    const std::uint64_t id = v.endpoint_id();
    auto c = v.argument<dek_ioc_command>();
    dek_block_begin(c.block, DEK_OP_DISASSOCIATE, id, 7);
    dek_block_disassociate(c.block, a.handle);
    dek_block_seal(c.block);
    const pthread_t self = ::pthread_self();
    std::thread killer([self] {
        std::this_thread::sleep_for(100ms);
        ::pthread_kill(self, SIGUSR1);
    });
    CHECK(v.caller().call(DEK_IOC_COMMAND, c) == EINTR);
    killer.join();
    CHECK_FALSE(write.done);
    CHECK(v.disassociate(a.handle) == DEK_OK);
    CHECK(write.has_ended());
    CHECK(v.associations().empty());
}

TEST_CASE(
    "a map whose commit was interrupted is in force, and the commit goes on when sent again") {
    Volume v({.delay_ms = 600});
    REQUIRE(v.map(1, {}) == 0);
    struct sigaction action {};
    action.sa_handler = ignore_signal;
    ::sigaction(SIGUSR1, &action, nullptr);
    SlowWrite write(v, 0, pattern(4096, 1));
    const pthread_t self = ::pthread_self();
    std::thread killer([self] {
        std::this_thread::sleep_for(100ms);
        ::pthread_kill(self, SIGUSR1);
    });
    CHECK(v.map(2, {{0, 64}}) == EINTR);
    killer.join();
    CHECK_FALSE(write.done);
    REQUIRE(v.ranges().size() == 1);
    auto again = v.argument<dek_ioc_map>();
    again.generation = 2;
    again.flags = DEK_MAP_COMMIT;
    CHECK(v.caller().call(DEK_IOC_MAP, again) == 0);
    CHECK(write.has_ended());
}

TEST_CASE("an abandoned command blocks nobody once the I/O has gone") {
    Volume v({.delay_ms = 400});
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}});
    REQUIRE(v.associate(a) == DEK_OK);
    {
        SlowWrite write(v, 0, pattern(4096, 1));
        const std::uint64_t id = v.endpoint_id();
        const pid_t child = ::fork();
        if (child == 0) {
            Caller caller;
            auto c = v.argument<dek_ioc_command>();
            dek_block_begin(c.block, DEK_OP_DISASSOCIATE, id, 7);
            dek_block_disassociate(c.block, a.handle);
            dek_block_seal(c.block);
            ::_exit(caller.call(DEK_IOC_COMMAND, c));
        }
        std::this_thread::sleep_for(50ms);
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
    }
    while (!v.associations().empty())
        std::this_thread::sleep_for(1ms);
    CHECK(v.write(0, pattern(4096, 1)) == EIO); // fenced, not held for ever
}

TEST_CASE("a reader sees the old key or the new one, never neither") {
    Volume v;
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association one = an_association({{0, 1024}}, 1);
    REQUIRE(v.associate(one) == DEK_OK);
    Association two = one;
    two.key = test_key(64, 2);
    // What is plain under the one is `plain`, under the other `changed`.
    const Bytes plain = pattern(65536, 1);
    REQUIRE(v.write(0, plain) == 0);
    REQUIRE(v.associate(two, DEK_OP_UPDATE) == DEK_OK);
    Bytes changed(plain.size());
    REQUIRE(v.read(0, changed) == 0);
    REQUIRE(changed != plain);
    std::atomic<bool> stop{false};
    std::atomic<unsigned> wrong{0}, reads{0}, old_seen{0};
    std::vector<std::thread> readers;
    for (int t = 0; t < 3; t++)
        readers.emplace_back([&] {
            Bytes got(plain.size());
            while (!stop) {
                const int error = v.read(0, got);
                wrong += error || (got != plain && got != changed);
                old_seen += got == plain;
                reads++;
            }
        });
    std::thread writer([&] { // elsewhere under the same key
        const Bytes data = pattern(8192, 3);
        while (!stop)
            wrong += v.write(512, data) != 0;
    });
    // On a slow machine readers need more of them.
    for (int i = 0; i < 100 || (i < 5000 && (reads <= 100 || !old_seen)); i++) {
        wrong += v.associate(one, DEK_OP_UPDATE) != DEK_OK;
        wrong += v.associate(two, DEK_OP_UPDATE) != DEK_OK;
    }
    stop = true;
    for (auto& t : readers)
        t.join();
    writer.join();
    CHECK(wrong == 0);
    CHECK(reads > 100);
    CHECK(old_seen > 0);
}

TEST_CASE("keys come and go under I/O of many threads") {
    Volume v({.sectors = 65536});
    REQUIRE(v.map(1, {{0, 8192}}) == 0);
    std::atomic<bool> stop{false};
    std::atomic<unsigned> wrong{0};
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < 4; t++)
        workers.emplace_back([&, t] {
            const std::uint64_t home = t * 2048;
            Association a = an_association({{home, 2048}}, t);
            const Bytes data = pattern(16384, t);
            Bytes got(data.size());
            for (int i = 0; i < 40 && !stop; i++) {
                a.handle = 0;
                wrong += v.associate(a) != DEK_OK;
                wrong += v.write(home + 32, data) != 0;
                wrong += v.read(home + 32, got) != 0 || got != data;
                wrong += v.disassociate(a.handle) != DEK_OK;
                wrong += v.read(home + 32, got) != EIO;
            }
        });
    for (auto& t : workers)
        t.join();
    CHECK(wrong == 0);
}

TEST_CASE("only root may call") {
    Volume v;
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setuid(65534) < 0)
            ::_exit(255);
        dek_ioc_version version{};
        if (v.caller().call(DEK_IOC_VERSION, version) != EPERM)
            ::_exit(1);
        auto stats = v.argument<dek_ioc_stats>();
        if (v.caller().call(DEK_IOC_STATS, stats) != EPERM)
            ::_exit(2);
        ::_exit(::open(stage().control().c_str(), O_RDWR) < 0 ? 0 : 3);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("events tell what happened, in order, and poll says when") {
    Caller caller;
    dek_ioc_version version{};
    REQUIRE(caller.call(DEK_IOC_VERSION, version) == 0);
    if (!(version.caps & DEK_CAP_EVENTS))
        return; // by netlink there
    dek_ioc_events page{};
    do {
        if (page.count)
            page.cursor = page.event[page.count - 1].sequence;
        REQUIRE(caller.call(DEK_IOC_EVENTS, page) == 0);
    } while (page.more);
    if (page.count)
        page.cursor = page.event[page.count - 1].sequence;
    const std::uint64_t start = page.cursor;
    pollfd wait{caller.fd(), POLLIN, 0};
    CHECK(::poll(&wait, 1, 0) == 0);

    Association a = an_association({{0, 64}});
    Uuid uuid;
    std::thread later;
    {
        Volume v;
        uuid = v.place().uuid;
        REQUIRE(::poll(&wait, 1, 5000) == 1);
        CHECK(wait.revents == POLLIN);
        REQUIRE(v.map(4, {{0, 1024}}) == 0);
        CHECK(v.write(0, pattern(4096, 1)) == EIO);
        CHECK(v.write(8, pattern(4096, 1)) == EIO); // no second event within the second
        REQUIRE(v.associate(a) == DEK_OK);
        a.key = test_key(64, 5);
        REQUIRE(v.associate(a, DEK_OP_UPDATE) == DEK_OK);
        REQUIRE(v.disassociate(a.handle) == DEK_OK);
    }
    page.cursor = start;
    REQUIRE(caller.call(DEK_IOC_EVENTS, page) == 0);
    std::vector<std::uint32_t> types;
    std::uint64_t sequence = start;
    unsigned hits = 0;
    for (unsigned i = 0; i < page.count; i++) {
        const dek_event& e = page.event[i];
        CHECK(e.sequence == sequence + 1);
        sequence = e.sequence;
        if (!std::equal(uuid.begin(), uuid.end(), e.uuid))
            continue;
        CHECK(e.time_ns != 0);
        if (e.type == DEK_EVENT_FENCE_HIT) {
            hits++;
            CHECK(e.lba == 0);
            CHECK(e.generation == 4);
            continue;
        }
        types.push_back(e.type);
        if (e.type >= DEK_EVENT_ASSOCIATION_MADE && e.type <= DEK_EVENT_ASSOCIATION_LOST)
            CHECK(e.handle == a.handle);
    }
    CHECK((hits == 1 || hits == 2)); // the second may have turned
    CHECK(types == std::vector<std::uint32_t>{DEK_EVENT_ENDPOINT_UP, DEK_EVENT_ASSOCIATION_MADE,
                                              DEK_EVENT_ASSOCIATION_CHANGED,
                                              DEK_EVENT_ASSOCIATION_LOST, DEK_EVENT_ENDPOINT_DOWN});
    CHECK(::poll(&wait, 1, 0) == 0);
}
