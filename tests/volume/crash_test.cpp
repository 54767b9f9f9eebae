// SPDX-License-Identifier: Apache-2.0
// The power fails, a call fails or the process is killed at any moment of a change: afterwards the
// old header can be read or the new one, whole, and the next change works.
#include <cerrno>
#include <set>

#include <catch2/catch.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder.h"
#include "sample.h"
#include "volume/header.h"

using namespace dek;
using namespace dek::test;
using volume::Header;
using volume::Location;

namespace {

constexpr std::size_t place_bytes = 256 * 1024;
constexpr std::size_t a = volume::copy_a_byte, b = volume::copy_b_byte;

// The place of a header in memory. At byte 0: the header of these tests lies there.
class Medium {
  public:
    Medium() : fd_(::memfd_create("medium", MFD_CLOEXEC)) {}
    Location at() const { return {fd_.get(), 0}; }
    void load(const Bytes& bytes) { put_bytes(fd_.get(), 0, bytes); }
    Bytes bytes() const { return bytes_of(fd_.get(), 0, place_bytes); }

  private:
    Fd fd_;
};

Header header_of(const std::string& name, std::uint64_t sequence) {
    static const Header base = in_place_header(sample_key());
    Header header = base;
    header.header_lba = 0;
    header.name = name;
    header.sequence = sequence;
    return header;
}

Bytes copy_of(const std::string& name, std::uint64_t sequence) {
    return volume::encode(header_of(name, sequence), sample_key()).value();
}

Bytes large_copy(std::uint64_t sequence) {
    Header header = header_of("old", sequence);
    header.device_lbas = header.size = 1 << 20;
    header.ranges.clear();
    for (std::uint64_t i = 0; i < 2048; ++i)
        header.ranges.push_back({{1024 + 16 * i, 8}, 0});
    return volume::encode(header, sample_key()).value();
}

void place(Bytes& medium, std::size_t at, const Bytes& copy) {
    std::copy(copy.begin(), copy.end(), medium.begin() + static_cast<std::ptrdiff_t>(at));
}

// What is read: the name in the header, or the code of the failure.
std::string outcome(const Location& at) {
    const auto found = volume::read(at);
    if (!found)
        return errc_name(found.error().code);
    return volume::verify(found->copy, sample_key()) ? found->copy.header.name : "forged";
}

struct Start {
    std::string what;
    Bytes medium;
    std::string old; // outcome
};

Start torn_start(const std::string& what, std::size_t torn, std::size_t whole) {
    Start start{what, Bytes(place_bytes), "old"};
    place(start.medium, whole, copy_of("old", 5));
    place(start.medium, torn, copy_of("torn", 6));
    start.medium[torn + 3000] ^= 1;
    return start;
}

std::vector<Start> starts_with_header() {
    std::vector<Start> starts;
    for (const auto& [what, in_a, in_b] :
         {std::tuple{"both alike", copy_of("old", 5), copy_of("old", 5)},
          std::tuple{"A older", copy_of("ancient", 4), copy_of("old", 5)},
          std::tuple{"B older", copy_of("old", 5), copy_of("ancient", 4)},
          std::tuple{"only A", copy_of("old", 5), Bytes(4096)},
          std::tuple{"only B", Bytes(4096), copy_of("old", 5)},
          std::tuple{"large", large_copy(5), large_copy(5)}}) {
        Start start{what, Bytes(place_bytes, 0xa5), "old"};
        place(start.medium, a, in_a);
        place(start.medium, b, in_b);
        starts.push_back(start);
    }
    starts.push_back(torn_start("A torn", a, b));
    starts.push_back(torn_start("B torn", b, a));
    return starts;
}

std::vector<Start> starts_without_header() {
    return {{"blank", Bytes(place_bytes), "not-found"},
            {"other data", Bytes(place_bytes, 0xa5), "not-found"}};
}

Start pair(const std::string& what, const Bytes& in_a, const Bytes& in_b, const std::string& old) {
    Start start{what, Bytes(place_bytes), old};
    place(start.medium, a, in_a);
    place(start.medium, b, in_b);
    return start;
}

Start both_torn() {
    Bytes torn = copy_of("torn", 5);
    torn[3000] ^= 1;
    return pair("both torn", torn, torn, "corrupt");
}

Start twins() {
    return pair("one sequence number, two texts", copy_of("one", 5), copy_of("two", 5), "corrupt");
}

Start too_new() {
    Forgery forgery = Forgery::of(copy_of("future", 5));
    forgery.put32(16, 0x100);
    return pair("an unknown feature", forgery.sealed(), forgery.sealed(), "unsupported");
}

using Change = std::function<Result<void>(const Location&)>;

Result<void> write_new(const Location& at) {
    return volume::write(at, header_of("new", 7), sample_key());
}

Result<void> restore_new(const Location& at) {
    const auto from = volume::decode(copy_of("new", 6)).value();
    return volume::restore(at, from, sample_key(), 20480, 0, true);
}

Result<void> overwrite_new(const Location& at) {
    Header header = header_of("new", 1);
    header.uuid = volume::random_uuid();
    auto done = volume::overwrite(at, header, sample_key());
    return done ? Result<void>() : tl::unexpected<Error>(done.error());
}

// After any crash the header can be restored and changed again.
void check_recovery(Medium& medium) {
    REQUIRE(restore_new(medium.at()).has_value());
    REQUIRE(volume::write(medium.at(), header_of("later", 100), sample_key()).has_value());
    REQUIRE(outcome(medium.at()) == "later");
}

void crash_everywhere(const Start& start, const Change& change,
                      const std::set<std::string>& allowed, const std::string& done) {
    INFO("start: " << start.what);
    Medium medium;
    medium.load(start.medium);
    REQUIRE(outcome(medium.at()) == start.old);
    const auto events = record([&] { REQUIRE(change(medium.at()).has_value()); });
    REQUIRE(outcome(medium.at()) == done);
    std::set<std::string> seen;
    int states = 0;
    for_each_crash(start.medium, events, [&](const Bytes& state) {
        medium.load(state);
        const std::string now = outcome(medium.at());
        if (allowed.count(now) == 0)
            FAIL("state " << states << " reads as " << now);
        seen.insert(now);
        if (states++ % 97 == 0)
            check_recovery(medium);
    });
    CHECK(seen.count(start.old) == 1);
    CHECK(seen.count(done) == 1);
    CHECK(states > 50);
}

void fail_everywhere(const Start& start, const Change& change,
                     const std::set<std::string>& allowed) {
    INFO("start: " << start.what);
    Medium medium;
    for (int index = 0;; ++index) {
        medium.load(start.medium);
        Result<void> result;
        const int error = index % 2 == 0 ? EIO : ENOSPC;
        if (!run_failing(index, error, [&] { result = change(medium.at()); }))
            break;
        INFO("call " << index);
        REQUIRE_FALSE(result.has_value());
        CHECK(result.error().code == (error == EIO ? Errc::io : Errc::no_space));
        CHECK(allowed.count(outcome(medium.at())) == 1);
        REQUIRE(index < 100);
        check_recovery(medium);
    }
}

} // namespace

TEST_CASE("a write is the old header or the new one at any instant") {
    for (const Start& start : starts_with_header()) {
        crash_everywhere(start, write_new, {"old", "new"}, "new");
        fail_everywhere(start, write_new, {"old", "new"});
    }
}

TEST_CASE("a first write is no header or the new one at any instant") {
    for (const Start& start : starts_without_header()) {
        crash_everywhere(start, write_new, {"not-found", "new"}, "new");
        fail_everywhere(start, write_new, {"not-found", "new"});
    }
}

TEST_CASE("an erasure is the old header or none at any instant") {
    for (const Start& start : starts_with_header()) {
        crash_everywhere(start, volume::erase, {"old", "not-found"}, "not-found");
        fail_everywhere(start, volume::erase, {"old", "not-found"});
    }
}

TEST_CASE("an erasure of the copies alone is the old header or none at any instant") {
    const auto erase_copies = [](const Location& at) -> Result<void> {
        auto done = volume::erase_copies(at);
        return done ? Result<void>() : tl::unexpected<Error>(done.error());
    };
    for (const Start& start : starts_with_header()) {
        crash_everywhere(start, erase_copies, {"old", "not-found"}, "not-found");
        fail_everywhere(start, erase_copies, {"old", "not-found"});
    }
}

TEST_CASE("a restoration is the old header or the restored one at any instant") {
    for (const Start& start : starts_with_header()) {
        crash_everywhere(start, restore_new, {"old", "new"}, "new");
        fail_everywhere(start, restore_new, {"old", "new"});
    }
}

TEST_CASE("a restoration over another volume's header is that one or the restored one") {
    Header other = header_of("old", 50);
    other.uuid = volume::random_uuid();
    Start start{"another volume", Bytes(place_bytes), "old"};
    for (const std::size_t at : {a, b})
        place(start.medium, at, volume::encode(other, sample_key()).value());
    crash_everywhere(start, restore_new, {"old", "new"}, "new");
}

TEST_CASE("a restoration over a refused header is refused until the restored one is whole") {
    crash_everywhere(both_torn(), restore_new, {"corrupt", "new"}, "new");
    crash_everywhere(too_new(), restore_new, {"unsupported", "new"}, "new");
    // One of two that contradict each other may stand alone for a moment: it is signed by the key,
    // too.
    crash_everywhere(twins(), restore_new, {"corrupt", "two", "new"}, "new");
}

TEST_CASE("a new volume over another one is that one or the new one at any instant") {
    for (const Start& start : starts_with_header()) {
        fail_everywhere(start, overwrite_new, {"old", "new"});
        if (start.what == "A older" || start.what == "B torn") // the order of writing is restore's
            crash_everywhere(start, overwrite_new, {"old", "new"}, "new");
    }
    crash_everywhere(both_torn(), overwrite_new, {"corrupt", "new"}, "new");
    crash_everywhere(too_new(), overwrite_new, {"unsupported", "new"}, "new");
}

TEST_CASE("after an erasure nothing of the header is left") {
    for (const Start& start : starts_with_header()) {
        Medium medium;
        medium.load(start.medium);
        REQUIRE(volume::erase(medium.at()).has_value());
        CHECK(medium.bytes() == Bytes(place_bytes));
    }
}

TEST_CASE("a backup is the old file or the new one whenever it is killed") {
    Medium medium;
    medium.load(starts_with_header().front().medium);
    for (const bool replaced : {false, true}) {
        const Bytes old = replaced ? Bytes(10, 'o') : Bytes();
        int kills = 0;
        for (int index = 0;; ++index) {
            const Directory directory;
            const std::string file = directory.path("backup");
            if (replaced) {
                const Fd fd = make_image(file, 0);
                put_bytes(fd.get(), 0, old);
            }
            const bool killed = run_killed(index, [&] {
                ::_exit(volume::backup(medium.at(), file, replaced).has_value() ? 0 : 3);
            });
            const auto read = volume::read_backup(file);
            if (!killed) {
                CHECK(read.has_value());
                break;
            }
            ++kills;
            INFO("killed before call " << index);
            CHECK((read.has_value() || file_bytes(file) == old));
        }
        CHECK(kills >= 4); // write, fsync, rename, fsync of the directory
    }
}
