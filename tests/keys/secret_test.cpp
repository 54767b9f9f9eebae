// SPDX-License-Identifier: Apache-2.0
// Secrets: locked, not dumped, not inherited, wiped.
#include <cstring>
#include <fstream>
#include <sstream>
#include <type_traits>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"

using namespace dek;
using namespace dek::test;

#ifndef SANITIZED
namespace {
void* watched = nullptr;
int unmapped_zero = -1; // -1: not seen; 1: every byte was zero when the pages went
} // namespace

// Takes the place of libc's in this program: the last moment at which a secret's pages can be
// looked at.
extern "C" int munmap(void* at, std::size_t size) {
    if (at == watched) {
        unmapped_zero = 1;
        for (std::size_t i = 0; i < size; ++i)
            if (static_cast<const volatile char*>(at)[i] != 0)
                unmapped_zero = 0;
    }
    return static_cast<int>(::syscall(SYS_munmap, at, size));
}

TEST_CASE("a secret's pages are zero when they are given back") {
    {
        Secret secret = material_of(7, 5000);
        watched = secret.bytes().data();
    }
    CHECK(unmapped_zero == 1);
    unmapped_zero = -1;
    Secret first = material_of(8);
    watched = first.bytes().data();
    SECTION("also when another is moved onto it") {
        first = material_of(9);
    }
    SECTION("also when wiped") {
        first.wipe();
        CHECK(first.empty());
    }
    SECTION("also when truncated to nothing") {
        first.truncate(0);
    }
    CHECK(unmapped_zero == 1);
    watched = nullptr;
}
#endif

// The VmFlags line of the mapping that holds `at`.
static std::string vm_flags(const void* at) {
    std::ifstream smaps("/proc/self/smaps");
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    std::string line;
    bool inside = false;
    while (std::getline(smaps, line)) {
        std::uintptr_t from = 0;
        std::uintptr_t to = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
            inside = from <= address && address < to;
        if (inside && line.rfind("VmFlags:", 0) == 0)
            return line + ' ';
    }
    return {};
}

TEST_CASE("a secret's pages are left out of core dumps and of forks, and locked") {
    const Secret secret = material_of(1);
    const std::string flags = vm_flags(secret.bytes().data());
    INFO(flags);
    CHECK(flags.find(" dd ") != std::string::npos);
    CHECK(flags.find(" wf ") != std::string::npos);
#ifndef SANITIZED
    CHECK(flags.find(" lo ") != std::string::npos);
#endif
    std::vector<char> plain(4 * 1024 * 1024, 'x');
    CHECK(vm_flags(plain.data()).find(" dd ") == std::string::npos);
}

TEST_CASE("a child does not inherit a secret") {
    const Secret secret = material_of(2);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int sum = 0;
        for (const std::uint8_t byte : secret.bytes())
            sum |= byte;
        ::_exit(sum == 0 ? 42 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 42);
    CHECK(secret.equals(material_of(2).bytes()));
}

TEST_CASE("secrets move, compare and shrink; copying is a word of its own") {
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Secret>);
    STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<Secret>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<Secret, std::string>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<Secret, std::string_view>);
    Secret one = material_of(3);
    Secret two = one.clone();
    CHECK(one.equals(two.bytes()));
    two.bytes()[63] ^= 1;
    CHECK_FALSE(one.equals(two.bytes()));
    CHECK_FALSE(one.equals(two.bytes().first(63)));
    const std::uint8_t* rest = one.bytes().data() + 10;
    one.truncate(10);
    CHECK(one.size() == 10);
    CHECK(*rest == 0);
    const Secret moved = std::move(one);
    CHECK(one.empty()); // NOLINT: that is the claim
    CHECK(moved.size() == 10);
    CHECK_FALSE(Secret::random(32).equals(Secret::random(32).bytes()));
    CHECK(Secret().equals({}));
}

TEST_CASE("a secret is read up to its limit and not beyond") {
    const Folder folder;
    write_text(folder / "eight", "12345678");
    write_text(folder / "none", "");
    CHECK(must(read_secret_file(folder / "eight", 8, "it")).equals(secret_of("12345678").bytes()));
    CHECK(code_of(read_secret_file(folder / "eight", 7, "it")) == Errc::invalid_argument);
    CHECK(code_of(read_secret_file(folder / "none", 8, "it")) == Errc::invalid_argument);
    CHECK(code_of(read_secret_file(folder / "missing", 8, "it")) == Errc::not_found);
    CHECK(code_of(read_secret_file(folder.path(), 8, "it")) == Errc::invalid_argument);
    CHECK(read_secret_file(folder / "eight", 7, "it").error().reason.find("1234") ==
          std::string::npos);
}

TEST_CASE("a hardened process leaves no core and cannot be traced by peers") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        harden_process();
        rlimit core{1, 1};
        ::getrlimit(RLIMIT_CORE, &core);
        ::_exit(::prctl(PR_GET_DUMPABLE) == 0 && core.rlim_max == 0 ? 42 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 42);
}

TEST_CASE("an unprivileged user who may lock no memory has secrets all the same, and memory left") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const rlimit none{0, 0};
        ::setrlimit(RLIMIT_MEMLOCK, &none);
        if (::geteuid() == 0 && ::setuid(65534) != 0)
            ::_exit(2);
        harden_process();
        const std::vector<char> large(64 * 1024 * 1024, 'x');
        ::_exit(Secret::random(32).size() == 32 && large.back() == 'x' ? 42 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 42);
}
