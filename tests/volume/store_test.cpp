// SPDX-License-Identifier: Apache-2.0
// Headers on files and on what opens them: which copy counts, what is refused, what backups are
// good for.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample.h"
#include "volume/header.h"

using namespace dek;
using namespace dek::test;
using volume::CopyState;
using volume::Header;
using volume::Location;

namespace {

constexpr std::uint64_t lbas = 20480;

struct Disk {
    explicit Disk(int flags = 0) : fd(make_image(directory.path("disk"), lbas, flags)) {}
    Location at(std::uint64_t lba = 1024) const { return {fd.get(), lba * 512}; }
    void put(std::uint64_t copy_byte, const Bytes& bytes) const {
        put_bytes(fd.get(), 1024 * 512 + copy_byte, bytes);
    }
    Bytes place() const { return bytes_of(fd.get(), 1024 * 512, 256 * 1024); }

    Directory directory;
    Fd fd;
};

const Secret& key() {
    static const Secret made = sample_key();
    return made;
}

Bytes sealed(const Header& header) {
    return volume::encode(header, key()).value();
}

Header with_sequence(Header header, std::uint64_t sequence) {
    header.sequence = sequence;
    return header;
}

template <class T>
void refused(const Result<T>& result, Errc code, const std::string& part = "") {
    REQUIRE_FALSE(result.has_value());
    INFO(result.error().reason);
    CHECK(result.error().code == code);
    CHECK(result.error().reason.find(part) != std::string::npos);
}

} // namespace

TEST_CASE("a header is read where it was written") {
    const Disk disk;
    const Header header = in_place_header(key());
    refused(volume::read(disk.at()), Errc::not_found);
    REQUIRE(volume::write(disk.at(), header, key()).has_value());
    const auto found = volume::read(disk.at());
    REQUIRE(found.has_value());
    CHECK_FALSE(found->torn);
    CHECK(found->copy.header.uuid == header.uuid);
    CHECK(volume::verify(found->copy, key()).has_value());
    CHECK(bytes_of(disk.fd.get(), 0, 512) == Bytes(512));
    const Bytes place = disk.place();
    CHECK(std::equal(place.begin(), place.begin() + 65536, place.begin() + 65536));
}

TEST_CASE("direct and buffered descriptors read and write alike") {
    const Disk disk;
    const Fd direct(::open(disk.directory.path("disk").c_str(), O_RDWR | O_DIRECT));
    if (!direct)
        return; // a filesystem without O_DIRECT
    const Location at{direct.get(), 1024 * 512};
    const Header header = in_place_header(key());
    REQUIRE(volume::write(at, header, key()).has_value());
    CHECK(volume::read(at)->copy.bytes == volume::read(disk.at())->copy.bytes);
    REQUIRE(volume::write(disk.at(), with_sequence(header, 2), key()).has_value());
    CHECK(volume::read(at)->copy.header.sequence == 2);
    REQUIRE(volume::erase(at).has_value());
    CHECK(disk.place() == Bytes(256 * 1024));
}

TEST_CASE("the newest of two whole copies counts") {
    const Disk disk;
    const Header header = in_place_header(key());
    disk.put(volume::copy_a_byte, sealed(with_sequence(header, 3)));
    disk.put(volume::copy_b_byte, sealed(with_sequence(header, 4)));
    CHECK(volume::read(disk.at())->copy.header.sequence == 4);
    disk.put(volume::copy_a_byte, sealed(with_sequence(header, 5)));
    CHECK(volume::read(disk.at())->copy.header.sequence == 5);
}

TEST_CASE("one torn copy is told and mended, two are corrupt") {
    const Disk disk;
    const Header header = in_place_header(key());
    REQUIRE(volume::write(disk.at(), header, key()).has_value());
    disk.put(volume::copy_a_byte + 1000, {0xff});
    auto found = volume::read(disk.at());
    REQUIRE(found.has_value());
    CHECK(found->torn);
    CHECK(found->a == CopyState::torn);
    CHECK(found->b == CopyState::valid);
    REQUIRE(volume::write(disk.at(), with_sequence(header, 2), key()).has_value());
    CHECK_FALSE(volume::read(disk.at())->torn);
    disk.put(volume::copy_a_byte + 1000, {0xff});
    disk.put(volume::copy_b_byte + 1000, {0xff});
    refused(volume::read(disk.at()), Errc::corrupt, "(digest)");
    refused(volume::write(disk.at(), with_sequence(header, 3), key()), Errc::corrupt);
}

TEST_CASE("what tearing cannot explain is not got around by the other copy") {
    const Disk disk;
    const Header header = in_place_header(key());
    REQUIRE(volume::write(disk.at(), header, key()).has_value());
    Forgery forgery = Forgery::of(sealed(header));
    SECTION("an unknown incompatible feature, in the older copy even") {
        forgery.put32(16, 0x100);
        forgery.put64(24, 0);
        disk.put(volume::copy_b_byte, forgery.sealed());
        refused(volume::read(disk.at()), Errc::unsupported, "(incompatible)");
        refused(volume::write(disk.at(), with_sequence(header, 9), key()), Errc::unsupported);
    }
    SECTION("a newer version") {
        forgery.put32(8, 2);
        forgery.put64(24, 2);
        disk.put(volume::copy_a_byte, forgery.sealed());
        refused(volume::read(disk.at()), Errc::unsupported, "(version)");
    }
    SECTION("a version that is only damage is a torn copy") {
        Bytes damaged = sealed(header);
        damaged[8] = 2;
        disk.put(volume::copy_a_byte, damaged);
        CHECK(volume::read(disk.at())->torn);
    }
    SECTION("a whole copy that contradicts itself") {
        forgery.put64(24, 2);
        forgery.edit([](nlohmann::json& text) { text["size"] = 0; });
        disk.put(volume::copy_a_byte, forgery.sealed());
        refused(volume::read(disk.at()), Errc::corrupt, "(volume-size)");
    }
    SECTION("one sequence number, different bytes") {
        forgery.map[9] ^= 1;
        disk.put(volume::copy_a_byte, forgery.sealed());
        refused(volume::read(disk.at()), Errc::corrupt, "same sequence number");
    }
}

TEST_CASE("a header that belongs elsewhere is not found") {
    const Disk disk;
    disk.put(volume::copy_a_byte,
             sealed(leading_header(key()))); // as of a partition that starts there
    refused(volume::read(disk.at()), Errc::not_found, "belongs at LBA 0");
    refused(volume::write(disk.at(), in_place_header(key()), key()), Errc::exists, "erased first");
}

TEST_CASE("writes that would lose something are refused") {
    const Disk disk;
    const Header header = with_sequence(in_place_header(key()), 5);
    REQUIRE(volume::write(disk.at(), header, key()).has_value());
    const Bytes before = disk.place();
    refused(volume::write(disk.at(), header, key()), Errc::refused, "sequence number is 5");
    refused(volume::write(disk.at(), with_sequence(header, 4), key()), Errc::refused);
    refused(volume::write(disk.at(), with_sequence(in_place_header(key()), 6), key()), Errc::exists,
            "another volume");
    refused(volume::write(disk.at(0), with_sequence(header, 6), key()), Errc::invalid_argument);
    refused(volume::write(disk.at(), with_sequence(header, 6), sample_key(7)), Errc::wrong_key);
    Header bad = with_sequence(header, 6);
    bad.ranges[0].lbas.first = 1025;
    refused(volume::write(disk.at(), bad, key()), Errc::invalid_argument);
    CHECK(disk.place() == before);
}

TEST_CASE("erasing zeroes the journal too, and no more than the place") {
    const Disk disk;
    for (const bool leading : {false, true}) {
        const Header header = leading ? leading_header(key()) : in_place_header(key());
        const Location at = disk.at(header.header_lba);
        put_bytes(disk.fd.get(), 0, Bytes(lbas * 512, 0xa5));
        const std::size_t end = at.byte + volume::place_lbas(header.place) * 512;
        REQUIRE(volume::write(at, header, key()).has_value());
        REQUIRE(volume::erase(at).has_value());
        CHECK(bytes_of(disk.fd.get(), at.byte, end - at.byte) == Bytes(end - at.byte));
        CHECK(bytes_of(disk.fd.get(), end, 512) == Bytes(512, 0xa5));
        if (at.byte > 0)
            CHECK(bytes_of(disk.fd.get(), at.byte - 512, 512) == Bytes(512, 0xa5));
    }
}

TEST_CASE("an erasure leaves another header in the place, and what lies between, as it is") {
    const Disk disk;
    const Bytes other = sealed(in_place_header(key())); // for LBA 1024
    const Bytes mine = sealed(leading_header(key()));
    Bytes expected(lbas * 512, 0xa5);
    const auto put = [&](std::size_t byte, const Bytes& bytes) {
        std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(byte));
    };
    bool torn = false;
    SECTION("both copies whole") {
        put(1024 * 512, other);
        put(1024 * 512 + 65536, other);
    }
    SECTION("one copy is left of the other header") {
        put(1024 * 512 + 65536, other);
    }
    SECTION("one copy of its own is torn") {
        put(1024 * 512, other);
        torn = true;
    }
    put_bytes(disk.fd.get(), 0, expected);
    for (const std::size_t byte : {volume::copy_a_byte, volume::copy_b_byte}) {
        put_bytes(disk.fd.get(), byte, mine);
        put(byte, Bytes(mine.size()));
    }
    if (torn) {
        put_bytes(disk.fd.get(), volume::copy_b_byte + 1000, {0xff});
        put(volume::copy_b_byte, Bytes(mine.begin(), mine.end()));
        put(volume::copy_b_byte + 1000, {0xff});
        put(volume::copy_b_byte, Bytes(512));
    }
    REQUIRE(volume::erase(disk.at(0)).has_value());
    CHECK(bytes_of(disk.fd.get(), 0, lbas * 512) == expected);
    refused(volume::read(disk.at(0)), Errc::not_found);
}

TEST_CASE("a header that begins where another one's second copy lies is not erased with it") {
    const Disk disk;
    Header next = in_place_header(key());
    next.header_lba = volume::copy_b_byte / 512;
    REQUIRE(volume::write(disk.at(0), leading_header(key()), key()).has_value());
    put_bytes(disk.fd.get(), volume::copy_b_byte, sealed(next));
    const Location at = disk.at(next.header_lba);
    SECTION("its place") {
        REQUIRE(volume::erase(disk.at(0)).has_value());
    }
    SECTION("its copies") {
        CHECK(volume::erase_copies(disk.at(0)).value());
        CHECK_FALSE(volume::erase_copies(disk.at(0)).value());
    }
    refused(volume::read(disk.at(0)), Errc::not_found);
    CHECK(volume::read(at)->copy.header.uuid == next.uuid);
}

TEST_CASE("copies are erased alone, and only those of a header that belongs there") {
    const Disk disk;
    put_bytes(disk.fd.get(), 0, Bytes(lbas * 512, 0xa5));
    const Bytes copy = sealed(in_place_header(key()));
    Bytes expected = disk.place();
    SECTION("a header that belongs there") {
        disk.put(volume::copy_a_byte, copy);
        disk.put(volume::copy_b_byte, copy);
        CHECK(volume::erase_copies(disk.at()).value());
        for (const auto byte : {volume::copy_a_byte, volume::copy_b_byte})
            std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(byte), copy.size(), 0);
    }
    SECTION("one of a partition") {
        disk.put(volume::copy_a_byte, sealed(leading_header(key())));
        disk.put(volume::copy_b_byte, sealed(leading_header(key())));
        expected = disk.place();
        CHECK_FALSE(volume::erase_copies(disk.at()).value());
    }
    SECTION("none") {
        CHECK_FALSE(volume::erase_copies(disk.at()).value());
    }
    CHECK(disk.place() == expected);
}

TEST_CASE("a header file grows with what is written and shrinks for no erasure") {
    const Directory directory;
    const Fd fd = make_image(directory.path("header"), 0);
    const Location at{fd.get(), 0, true};
    REQUIRE(volume::write(at, detached_header(key()), key()).has_value());
    struct stat info {};
    ::fstat(fd.get(), &info);
    CHECK(info.st_size == 65536 + 4096);
    CHECK(volume::read(at).has_value());
    REQUIRE(volume::erase(at).has_value());
    ::fstat(fd.get(), &info);
    CHECK(bytes_of(fd.get(), 0, 65536 + 4096) == Bytes(65536 + 4096));
    CHECK(info.st_size == 65536 + 4096);
}

TEST_CASE("headers are looked for at three places that fit") {
    using Lbas = std::vector<std::uint64_t>;
    CHECK(volume::probe_lbas(20480) == Lbas{0, 1024, 19968});
    CHECK(volume::probe_lbas(20481) == Lbas{0, 1024, 19969, 19968});
    CHECK(volume::probe_lbas(1536) == Lbas{0, 1024});
    CHECK(volume::probe_lbas(1535) == Lbas{0, 1023, 1016});
    CHECK(volume::probe_lbas(512) == Lbas{0});
    CHECK(volume::probe_lbas(511).empty());
    CHECK(volume::probe_lbas(0).empty());
}

TEST_CASE(
    "a device too small or a header that belongs elsewhere is refused before anything is keyed") {
    const Location on_device{3, 1024 * 512}, start{3, 0}, in_file{3, 0, true};
    const Header in_place = in_place_header(key());
    CHECK(volume::check_device(in_place, on_device, lbas).has_value());
    CHECK(volume::check_device(in_place, on_device, lbas + 8).has_value());
    refused(volume::check_device(in_place, on_device, lbas - 1), Errc::refused, "too small");
    refused(volume::check_device(in_place, start, lbas), Errc::refused, "LBA 1024");
    refused(volume::check_device(in_place, in_file, lbas), Errc::refused, "belongs on the device");
    const Header leading = leading_header(key());
    CHECK(volume::check_device(leading, start, lbas).has_value());
    refused(volume::check_device(leading, start, lbas - 1), Errc::refused, "too small");
    const Header detached = detached_header(key());
    CHECK(volume::check_device(detached, in_file, lbas).has_value());
    refused(volume::check_device(detached, start, lbas), Errc::refused, "a file of its own");
    Header tail = in_place; // the header lies after the volume's end
    tail.size = 16384;
    tail.header_lba = lbas - 512;
    tail.ranges = {{{0, 8}, 0}};
    CHECK(volume::validate(tail).has_value());
    refused(volume::check_device(tail, {3, tail.header_lba * 512}, lbas - 1), Errc::refused,
            "too small");
}

namespace {

// A disk with a header of sequence number 5, and a backup of it.
struct Backed : Disk {
    Backed() : header(with_sequence(in_place_header(key()), 5)) {
        REQUIRE(volume::write(at(), header, key()).has_value());
        REQUIRE(volume::backup(at(), file(), false).has_value());
        copy = volume::read_backup(file()).value();
    }
    std::string file() const { return directory.path("backup"); }
    Result<void> restored(bool force = false, std::uint64_t last = 5,
                          std::uint64_t size = lbas) const {
        return volume::restore(at(), copy, key(), size, last, force);
    }

    Header header;
    volume::Copy copy;
};

} // namespace

TEST_CASE("a backup is the header, readable by its owner only, and not overwritten unasked") {
    const Backed disk;
    CHECK(disk.copy.bytes == sealed(disk.header));
    struct stat info {};
    ::stat(disk.file().c_str(), &info);
    CHECK((info.st_mode & 07777) == 0600);
    refused(volume::backup(disk.at(), disk.file(), false), Errc::exists);
    CHECK(volume::backup(disk.at(), disk.file(), true).has_value());
    CHECK(file_bytes(disk.file()) == volume::encode_backup(disk.copy));
}

TEST_CASE("a lost or corrupt header comes back from its backup, with a higher sequence number") {
    const Backed disk;
    SECTION("erased") {
        REQUIRE(volume::erase(disk.at()).has_value());
    }
    SECTION("torn twice") {
        disk.put(volume::copy_a_byte + 600, {0xff});
        disk.put(volume::copy_b_byte + 600, {0xff});
    }
    SECTION("edited: one sequence number, two texts") {
        Forgery forgery = Forgery::of(disk.copy.bytes);
        forgery.map[9] ^= 1;
        disk.put(volume::copy_a_byte, forgery.sealed());
    }
    SECTION("still there") {}
    REQUIRE(disk.restored(false, 5).has_value());
    const auto found = volume::read(disk.at());
    REQUIRE(found.has_value());
    CHECK_FALSE(found->torn);
    CHECK(found->copy.header.sequence == 6);
    CHECK(found->copy.header.ranges == disk.header.ranges);
    CHECK(volume::verify(found->copy, key()).has_value());
}

TEST_CASE("restoring refuses what would lose or expose something, and force overrules it") {
    const Backed disk;
    const auto only_forced = [&](const std::string& part, std::uint64_t last = 5,
                                 std::uint64_t size = lbas) {
        const Bytes before = disk.place();
        refused(disk.restored(false, last, size), Errc::refused, part);
        CHECK(disk.place() == before);
        REQUIRE(disk.restored(true, last, size).has_value());
        CHECK(volume::read(disk.at())->copy.header.uuid == disk.header.uuid);
    };
    SECTION("the header of another volume lies there") {
        REQUIRE(volume::erase(disk.at()).has_value());
        Header other = with_sequence(in_place_header(key()), 9);
        REQUIRE(volume::write(disk.at(), other, key()).has_value());
        only_forced("another volume");
        CHECK(volume::read(disk.at())->copy.header.sequence == 10);
    }
    SECTION("a newer header of this volume lies there") {
        REQUIRE(volume::write(disk.at(), with_sequence(disk.header, 8), key()).has_value());
        only_forced("older than the header");
        CHECK(volume::read(disk.at())->copy.header.sequence == 9);
    }
    SECTION("a newer one is known of") {
        only_forced("last known", 30);
        CHECK(volume::read(disk.at())->copy.header.sequence == 31);
    }
    SECTION("the device has grown") {
        only_forced("had 20480", 5, lbas + 8);
        CHECK(volume::read(disk.at())->copy.header.device_lbas == lbas + 8);
    }
    SECTION("something else lies there") {
        disk.put(0, Bytes(128 * 1024, 0xee));
        only_forced("no dekstack header");
    }
    SECTION("a header too new for this program lies there") {
        Forgery forgery = Forgery::of(disk.copy.bytes);
        forgery.put32(16, 0x100);
        forgery.put64(24, 40);
        disk.put(volume::copy_a_byte, forgery.sealed());
        disk.put(volume::copy_b_byte, forgery.sealed());
        REQUIRE(disk.restored(true).has_value());
        CHECK(volume::read(disk.at())->copy.header.sequence == 41);
    }
}

TEST_CASE("restoring refuses, whatever force says") {
    const Backed disk;
    const Bytes before = disk.place();
    for (const bool force : {false, true}) {
        refused(volume::restore(disk.at(), disk.copy, sample_key(3), lbas, 0, force),
                Errc::wrong_key);
        refused(disk.restored(force, 0, lbas - 1), Errc::refused, "too small");
        refused(volume::restore(disk.at(0), disk.copy, key(), lbas, 0, force), Errc::refused,
                "LBA 1024");
        refused(volume::restore({disk.fd.get(), 0, true}, disk.copy, key(), lbas, 0, force),
                Errc::refused);
        Forgery forgery = Forgery::of(disk.copy.bytes);
        forgery.map[9] ^= 1;
        const auto edited = volume::decode(forgery.sealed()).value();
        refused(volume::restore(disk.at(), edited, key(), lbas, 0, force), Errc::corrupt, "edited");
    }
    CHECK(disk.place() == before);
}

TEST_CASE("no sequence number is left above the last one") {
    const Backed disk;
    Forgery forgery = Forgery::of(disk.copy.bytes);
    forgery.put64(24, volume::max_sequence);
    disk.put(volume::copy_a_byte, forgery.sealed());
    refused(disk.restored(true), Errc::corrupt, "no sequence number");
}

TEST_CASE("backup files that are none are refused") {
    const Backed disk;
    refused(volume::read_backup(disk.directory.path("nothing")), Errc::not_found);
    refused(volume::read_backup(disk.directory.path("")), Errc::invalid_argument,
            "no regular file");
    REQUIRE(::mkfifo(disk.directory.path("pipe").c_str(), 0600) == 0);
    refused(volume::read_backup(disk.directory.path("pipe")), Errc::invalid_argument);
    refused(volume::read_backup(disk.directory.path("disk")), Errc::corrupt, "(backup-size)");
    const Fd empty = make_image(disk.directory.path("empty"), 0);
    refused(volume::read_backup(disk.directory.path("empty")), Errc::corrupt, "(backup-size)");
    refused(volume::backup({-1, 0}, disk.directory.path("b"), false), Errc::io);
}
