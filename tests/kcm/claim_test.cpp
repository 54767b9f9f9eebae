// SPDX-License-Identifier: Apache-2.0
// Nobody gets hold of a block device between the check that it is free and what is written to it,
// and what somebody else has put there since is never written over.
#include <algorithm>
#include <fstream>

#include <catch2/catch.hpp>
#include <fcntl.h>
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
