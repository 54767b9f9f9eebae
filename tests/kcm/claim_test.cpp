// SPDX-License-Identifier: Apache-2.0
// Nobody gets hold of a block device between the check that it is free and what is written to it,
// and what somebody else has put there since is never written over.
#include <algorithm>
#include <fstream>
#include <numeric>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "flush.h"
#include "kcm/loop.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;

namespace {

constexpr std::uint64_t lbas = 16 * 2048;
constexpr std::chrono::milliseconds patience{2000};

// A loop device on a file of the bench.
class Disk {
  public:
    explicit Disk(Bench& b)
        : image_(b.image("under-loop", lbas)), path_(*attach_loop(image_, 512, false)) {}
    ~Disk() {
        if (auto gone = detach_loop(path_, image_, patience); !gone)
            WARN(gone.error().reason);
    }
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;
    const std::string& path() const { return path_; }
    std::vector<std::uint8_t> start() const {
        return *read_bytes(*open_device(path_, Access::read), 0, 1 << 20);
    }

  private:
    std::string image_, path_;
};

// Another process that tries to claim a device, and keeps it if it gets it.
class Stranger {
  public:
    explicit Stranger(const std::string& path) {
        int answer[2], wait[2];
        REQUIRE(::pipe(answer) == 0);
        REQUIRE(::pipe(wait) == 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(wait[1]);
            const int fd = ::open(path.c_str(), O_RDWR | O_EXCL);
            const char got = fd >= 0 ? 1 : 0;
            char none = 0;
            (void)!::write(answer[1], &got, 1);
            (void)!::read(wait[0], &none, 1);
            ::_exit(0);
        }
        ::close(answer[1]);
        ::close(wait[0]);
        wait_ = Fd(wait[1]);
        char got = 0;
        REQUIRE(::read(answer[0], &got, 1) == 1);
        ::close(answer[0]);
        has_it = got != 0;
    }
    ~Stranger() {
        wait_.reset();
        ::waitpid(pid_, nullptr, 0);
    }
    Stranger(const Stranger&) = delete;
    Stranger& operator=(const Stranger&) = delete;
    bool has_it = false;

  private:
    pid_t pid_ = -1;
    Fd wait_;
};

// Counts the writes to the disk in `act`, and sees that nobody could have claimed it meanwhile.
void check_claimed(const Disk& disk, const std::function<void()>& act) {
    unsigned flushes = 0;
    bool taken = false;
    const kcmtest::Looking looking(kcmtest::on_flush, [&](int fd) {
        struct stat st;
        if (::fstat(fd, &st) == 0 && S_ISBLK(st.st_mode)) {
            flushes++;
            taken = taken || Stranger(disk.path()).has_it;
        }
        return 0;
    });
    act();
    CHECK(flushes > 0);
    CHECK_FALSE(taken);
}

std::string text_of(const Result<VolumePtr>& done) {
    return done ? "" : done.error().reason;
}

} // namespace

TEST_CASE("a device is claimed from the check until its header is written, erased or put back") {
    Bench b;
    const Disk disk(b);
    bool free_for_shim = false;
    b.backend->before_create = [&]() -> Result<void> {
        free_for_shim = Stranger(disk.path()).has_it;
        return {};
    };
    check_claimed(disk, [&] { REQUIRE(b.controller->protect(b.request(disk.path(), "data"))); });
    CHECK(free_for_shim);
    REQUIRE(b.controller->detach("data", patience));
    auto copy = find_header(*open_device(disk.path(), Access::read), {}, Access::read)->found.copy;
    check_claimed(disk, [&] { REQUIRE(b.controller->erase({disk.path(), {}, true, false})); });
    check_claimed(disk,
                  [&] { REQUIRE(b.controller->header_restore(disk.path(), {}, copy, false)); });
    CHECK(Stranger(disk.path()).has_it); // and let go of afterwards
}

TEST_CASE("a device that another process has claimed is left alone") {
    Bench b;
    const Disk disk(b);
    REQUIRE(b.controller->protect(b.request(disk.path(), "data")));
    REQUIRE(b.controller->detach("data", patience));
    auto copy = find_header(*open_device(disk.path(), Access::read), {}, Access::read)->found.copy;
    const auto before = disk.start();
    const Stranger stranger(disk.path());
    REQUIRE(stranger.has_it);
    auto r = b.request(disk.path(), "new");
    r.force = true;
    CHECK(b.controller->protect(r).error().code == Errc::busy);
    CHECK(b.controller->erase({disk.path(), {}, true, false}).error().code == Errc::busy);
    CHECK(b.controller->header_restore(disk.path(), {}, copy, true).error().code == Errc::busy);
    CHECK(disk.start() == before);
}

TEST_CASE("a protect that fails once the device is let go of puts back what was there") {
    Bench b;
    const Disk disk(b);
    const auto before = disk.start();
    b.backend->before_create = []() -> Result<void> { return fail(Errc::io, "no endpoint"); };
    check_claimed(disk, [&] {
        auto done = b.controller->protect(b.request(disk.path(), "data"));
        CHECK(text_of(done).find("not put back") == std::string::npos);
        CHECK_FALSE(done);
    });
    CHECK(disk.start() == before);
}

TEST_CASE("a failed protect writes nothing to a device that somebody has claimed since") {
    Bench b;
    const Disk disk(b);
    std::unique_ptr<Stranger> stranger;
    std::vector<std::uint8_t> then;
    b.backend->before_create = [&]() -> Result<void> {
        stranger = std::make_unique<Stranger>(disk.path());
        then = disk.start();
        return fail(Errc::busy, "somebody has it");
    };
    auto done = b.controller->protect(b.request(disk.path(), "data"));
    REQUIRE_FALSE(done);
    REQUIRE(stranger->has_it);
    INFO(done.error().reason);
    CHECK(done.error().reason.find("not put back: " + disk.path() + " is in use") !=
          std::string::npos);
    CHECK(disk.start() == then);
    CHECK(std::any_of(then.begin(), then.end(), [](auto byte) { return byte != 0; }));
    CHECK(b.registry->all().empty());
}

TEST_CASE("a failed protect does not write over what somebody else has written since") {
    Bench b;
    std::unique_ptr<Disk> disk;
    std::string path;
    SECTION("a block device") {
        disk = std::make_unique<Disk>(b);
        path = disk->path();
    }
    SECTION("an image file") {
        path = b.image("image", lbas);
    }
    b.backend->before_create = [&]() -> Result<void> {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(512 * 1024);
        file << "a stranger's";
        return fail(Errc::io, "no endpoint");
    };
    auto done = b.controller->protect(b.request(path, "data"));
    REQUIRE_FALSE(done);
    INFO(done.error().reason);
    CHECK(done.error().reason.find("somebody else has written there") != std::string::npos);
    auto there = read_bytes(*open_device(path, Access::read), 512 * 1024, 12);
    REQUIRE(there);
    CHECK(std::string(there->begin(), there->end()) == "a stranger's");
}

namespace {

// In place at `lba`, in data units of 512 bytes, on a disk whose data is not zero anywhere.
VolumePtr in_place_volume(Bench& b, const Disk& disk, std::uint64_t lba) {
    auto r = b.request(disk.path(), "data");
    r.in_place = true;
    r.data_unit = 512;
    r.encrypt = {{"16384-24575", ""}};
    r.header.lba = 4096;
    REQUIRE(b.controller->protect(r));
    REQUIRE(b.controller->detach("data", patience));
    auto device = *open_device(disk.path(), Access::write);
    auto sited = find_header(device, r.header, Access::write);
    REQUIRE(sited);
    auto header = sited->found.copy.header;
    REQUIRE(volume::erase(sited->site.location));
    std::vector<std::uint8_t> data(2 << 20);
    std::iota(data.begin(), data.end(), std::uint8_t{1});
    std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(lba * 512), 512 * 512, std::uint8_t{0});
    REQUIRE(::pwrite(device.fd.get(), data.data(), data.size(), 0) ==
            static_cast<ssize_t>(data.size()));
    header.header_lba = lba;
    auto key = b.keys->material(header.keys.front());
    REQUIRE(volume::write({device.fd.get(), lba * 512, false}, header, *key));
    REQUIRE(::fsync(device.fd.get()) == 0);
    auto v = b.controller->attach({disk.path(), {lba, ""}, false, ShimChoice::automatic, ""});
    INFO((v ? "" : v.error().reason));
    REQUIRE(v);
    return *v;
}

} // namespace

TEST_CASE("the header of a volume in service is written past the page cache") {
    Bench b;
    const Disk disk(b);
    const std::uint64_t lba = GENERATE(1024u, 1025u); // the second as old programs made them
    const auto v = in_place_volume(b, disk, lba);
    const auto before = *read_bytes(*open_device(disk.path(), Access::read), 0, 2 << 20);
    unsigned direct = 0, cached = 0;
    {
        const kcmtest::Looking looking(kcmtest::on_write, [&](int fd) {
            struct stat st;
            if (::fstat(fd, &st) == 0 && S_ISBLK(st.st_mode))
                (::fcntl(fd, F_GETFL) & O_DIRECT ? direct : cached)++;
            return 0;
        });
        REQUIRE(b.controller->resize("data", 28672));
    }
    CHECK(direct >= 2);
    CHECK(cached == 0);
    const auto after = *read_bytes(*open_device(disk.path(), Access::read), 0, 2 << 20);
    const auto at = static_cast<std::ptrdiff_t>(lba * 512);
    CHECK(std::equal(before.begin(), before.begin() + at, after.begin()));
    CHECK(
        std::equal(before.begin() + at + 512 * 512, before.end(), after.begin() + at + 512 * 512));
    CHECK_FALSE(before == after);
}

TEST_CASE("an image file is locked while it is worked on, and left alone when another has it") {
    Bench b;
    const auto image = b.image("image", lbas);
    const auto lock = [&] {
        Fd fd(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
        return ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 ? std::move(fd) : Fd();
    };
    bool free_for_shim = false;
    b.backend->before_create = [&]() -> Result<void> {
        free_for_shim = bool(lock());
        return {};
    };
    unsigned flushes = 0, open_to_others = 0;
    const auto look = [&](int fd) {
        struct stat a, of_image;
        if (::fstat(fd, &a) == 0 && ::stat(image.c_str(), &of_image) == 0 &&
            a.st_ino == of_image.st_ino) {
            flushes++;
            open_to_others += lock() ? 1 : 0;
        }
        return 0;
    };
    {
        const kcmtest::Looking looking(kcmtest::on_flush, look);
        REQUIRE(b.controller->protect(b.request(image, "data")));
    }
    CHECK(flushes > 0);
    CHECK(open_to_others == 0);
    CHECK(free_for_shim);
    REQUIRE(b.controller->detach("data", patience));
    auto copy = find_header(*open_device(image, Access::read), {}, Access::read)->found.copy;
    const auto before = b.fingerprint();
    auto held = lock();
    REQUIRE(held);
    auto r = b.request(image, "new");
    r.force = true;
    CHECK(b.controller->protect(r).error().code == Errc::busy);
    CHECK(b.controller->attach({image, {}, true, ShimChoice::automatic, ""}).error().code ==
          Errc::busy);
    CHECK(b.controller->erase({image, {}, true, false}).error().code == Errc::busy);
    CHECK(b.controller->header_restore(image, {}, copy, true).error().code == Errc::busy);
    CHECK(b.fingerprint() == before);
    held.reset();
    CHECK(b.controller->attach({image, {}, false, ShimChoice::automatic, ""}));
}

// The kernel asks the file for its size meanwhile, and takes 0 for it when the caller is killed.
TEST_CASE("a loop device that has its size is left alone") {
    Bench b;
    const Disk disk(b);
    const auto size = [&] { return open_device(disk.path(), Access::read)->lbas; };
    std::filesystem::resize_file(b.folder / "under-loop", 2 * lbas * 512);
    REQUIRE(resize_loop(disk.path(), lbas));
    CHECK(size() == lbas);
    REQUIRE(resize_loop(disk.path(), 2 * lbas));
    CHECK(size() == 2 * lbas);
}
