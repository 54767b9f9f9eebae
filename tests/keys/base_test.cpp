// SPDX-License-Identifier: Apache-2.0
// Durable files, descriptors, error names and the log.
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/fd.h"
#include "base/log.h"
#include "folder.h"

using namespace dek;
using namespace dek::test;

static std::span<const std::uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

static std::size_t entries_in(const Folder& folder) {
    using Entries = std::filesystem::directory_iterator;
    return static_cast<std::size_t>(std::distance(Entries(folder.path()), Entries()));
}

TEST_CASE("a durable file replaces the old one, has its mode and leaves nothing beside it") {
    const Folder folder;
    must(write_file_durably(folder / "f", bytes_of("one"), 0644));
    must(write_file_durably(folder / "f", bytes_of("two"), 0600));
    CHECK(text_of(folder / "f") == "two");
    struct stat about {};
    REQUIRE(::stat((folder / "f").c_str(), &about) == 0);
    CHECK((about.st_mode & 07777) == 0600);
    CHECK(entries_in(folder) == 1);
}

TEST_CASE("an exclusive durable file refuses an existing one and leaves it alone") {
    const Folder folder;
    must(create_file_durably(folder / "f", bytes_of("one"), 0600));
    CHECK(code_of(create_file_durably(folder / "f", bytes_of("two"), 0600)) == Errc::exists);
    CHECK(text_of(folder / "f") == "one");
    CHECK(entries_in(folder) == 1);
    ::symlink("nowhere", (folder / "link").c_str());
    CHECK(code_of(create_file_durably(folder / "link", bytes_of("x"), 0600)) == Errc::exists);
}

TEST_CASE("a durable file that cannot be written says why") {
    const Folder folder;
    CHECK(code_of(write_file_durably(folder / "no/f", bytes_of("x"), 0600)) == Errc::not_found);
    REQUIRE(::mkdir((folder / "d").c_str(), 0700) == 0);
    CHECK_FALSE(write_file_durably(folder / "d", bytes_of("x"), 0600));
    CHECK(entries_in(folder) == 1);
}

TEST_CASE("a descriptor is closed once, by its last owner") {
    int number = -1;
    {
        Fd one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        number = one.get();
        Fd two = std::move(one);
        CHECK_FALSE(one); // NOLINT: that is the claim
        CHECK(::fcntl(number, F_GETFD) >= 0);
        two = Fd();
        CHECK(::fcntl(number, F_GETFD) < 0);
        two.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        number = two.release();
    }
    CHECK(::fcntl(number, F_GETFD) >= 0);
    ::close(number);
}

TEST_CASE("every error code has a name of its own, and errno becomes a code and a sentence") {
    std::set<std::string> names;
    for (int code = 0; code <= static_cast<int>(Errc::internal); ++code)
        names.insert(errc_name(static_cast<Errc>(code)));
    CHECK(names.size() == static_cast<std::size_t>(Errc::internal) + 1);
    const Error error = fail_errno(ENOSPC, "it cannot be written").value();
    CHECK(error.code == Errc::no_space);
    CHECK(error.reason == "it cannot be written: No space left on device");
    CHECK(fail_errno(EBUSY, "").value().code == Errc::busy);
    CHECK(fail_errno(ENOENT, "").value().code == Errc::not_found);
    CHECK(fail_errno(EACCES, "").value().code == Errc::permission);
    CHECK(fail_errno(EIO, "").value().code == Errc::io);
}

TEST_CASE("a log line cannot be forged by what is logged") {
    CHECK(logfmt(Level::info, "attached", {{"volume", "data"}, {"ranges", 3}, {"torn", false}}) ==
          "level=info event=attached volume=data ranges=3 torn=no");
    CHECK(logfmt(Level::error, "x", {{"name", "a\nlevel=info event=fake"}}) ==
          "level=error event=x name=\"a\\x0alevel=info event=fake\"");
    CHECK(logfmt(Level::warning, "x", {{"name", "q\" \\ \x1b[31m \x7f \xc3\xa4"}}) ==
          R"(level=warning event=x name="q\" \\ \x1b[31m \x7f \xc3\xa4")");
    CHECK(logfmt(Level::debug, "x", {{"empty", ""}}) == "level=debug event=x empty=\"\"");
}

TEST_CASE("a line below the threshold is not written, one above it is, with its error") {
    const Folder folder;
    const Fd keep(::dup(STDERR_FILENO));
    const Fd file(::open((folder / "log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ::dup2(file.get(), STDERR_FILENO);
    log(Level::debug, "quiet");
    log(Level::info, "told", {{"n", 1}});
    log_error("broken", Error{Errc::busy, "somebody has it"}, {{"volume", "v"}});
    ::dup2(keep.get(), STDERR_FILENO);
    const std::string text = text_of(folder / "log");
    CHECK(text.find("quiet") == std::string::npos);
    CHECK(text.find("Z level=info event=told n=1\n") != std::string::npos);
    CHECK(text.find("level=error event=broken volume=v code=busy reason=\"somebody has it\"\n") !=
          std::string::npos);
}
