// SPDX-License-Identifier: Apache-2.0
// The keystore where the world is against it: no room, no permission, a second process, and eyes on
// its file and its memory.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"
#include "keys/recovery.h"
#include "keys/slot.h"
#include "keys/store.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;

namespace {

// Runs in a child, because limits and user IDs do not come back. 0: as expected.
int in_child(const std::function<int()>& work) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0)
        ::_exit(work());
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Puts keys until it fails; the code it failed with.
std::optional<Errc> fill(Keystore& keystore, int& kept) {
    for (kept = 0; kept < 5000; ++kept) {
        const std::map<std::string, std::string> bulky{{"note", std::string(1000, 'n')}};
        const auto made =
            keystore.put("key " + std::to_string(kept),
                         material_of(static_cast<std::uint32_t>(kept)), bulky, soon());
        if (!made)
            return made.error().code;
    }
    return std::nullopt;
}

struct SmallDisk {
    explicit SmallDisk(std::string at_)
        : at(std::move(at_)),
          mounted(::mount("dek-test", at.c_str(), "tmpfs", 0, "size=192k") == 0) {}
    ~SmallDisk() {
        if (mounted)
            ::umount2(at.c_str(), MNT_DETACH);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    std::string at;
    bool mounted;
};

// In the file, whether as it is, in hex or in base64.
std::vector<std::string> spellings(std::span<const std::uint8_t> bytes) {
    static constexpr char hex[] = "0123456789abcdef";
    static constexpr char base[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<std::string> all(3);
    for (const std::uint8_t byte : bytes) {
        all[0] += static_cast<char>(byte);
        all[1] += hex[byte >> 4];
        all[1] += hex[byte & 15];
    }
    all.push_back(all[1]);
    for (char& c : all.back())
        c = static_cast<char>(std::toupper(c));
    for (std::size_t i = 0; i + 2 < bytes.size(); i += 3) {
        const unsigned group = bytes[i] << 16U | bytes[i + 1] << 8U | bytes[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            all[2] += base[group >> shift & 63U];
    }
    return all;
}

bool contains(const std::string& text, std::span<const std::uint8_t> secret) {
    const std::size_t half = secret.size() / 2;
    for (const auto part : {secret.first(half), secret.last(half)})
        for (std::size_t skip = 0; skip < 3; ++skip) // base64 has three alignments
            for (const std::string& spelling : spellings(part.subspan(skip)))
                if (text.find(spelling) != std::string::npos)
                    return true;
    return false;
}

std::string all_files(const Folder& folder, const std::string& but) {
    std::string text;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
        if (entry.is_regular_file() && entry.path().filename() != but)
            text += text_of(entry.path().string());
    return text;
}

#ifndef SANITIZED
// How often the 16 bytes, kept inverted so as not to find themselves, stand in this process's
// memory.
int times_in_memory(const std::array<std::uint8_t, 16>& inverted) {
    constexpr std::size_t window = 1 << 20;
    static auto* buffer = static_cast<std::uint8_t*>(
        ::mmap(nullptr, window + 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::ifstream maps("/proc/self/maps");
    const int memory = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    std::string line;
    int found = 0;
    while (std::getline(maps, line)) {
        unsigned long from = 0;
        unsigned long to = 0;
        char access = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx %c", &from, &to, &access) != 3 || access != 'r')
            continue;
        for (unsigned long at = from; at < to; at += window) {
            const ssize_t got = ::pread(memory, buffer, std::min<std::size_t>(window + 15, to - at),
                                        static_cast<off_t>(at));
            for (ssize_t i = 0; i + 16 <= got; ++i) {
                const auto here = at + static_cast<unsigned long>(i);
                const auto own = reinterpret_cast<unsigned long>(buffer);
                if (here >= own - 16 && here < own + window + 16)
                    continue;
                int same = 0;
                while (same < 16 &&
                       buffer[i + same] ==
                           static_cast<std::uint8_t>(~inverted[static_cast<std::size_t>(same)]))
                    ++same;
                found += same == 16 ? 1 : 0;
            }
        }
    }
    ::close(memory);
    std::memset(buffer, 0, window + 16);
    return found;
}

std::array<std::uint8_t, 16> inverted(const Secret& secret) {
    std::array<std::uint8_t, 16> out{};
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = static_cast<std::uint8_t>(~secret.bytes()[i]);
    return out;
}
#endif

} // namespace

TEST_CASE("a second opener is told that the keystore is in use, in this process or another") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    CHECK(code_of(Keystore::open(folder / "ks")) == Errc::busy);
    const auto other = [&] {
        const auto opened = Keystore::open(folder / "ks");
        return !opened && opened.error().code == Errc::busy ? 42 : 1;
    };
    // The child inherits the locked descriptor, as any fork does; another opening of it is what
    // counts.
    CHECK(in_child(other) == 42);
    keystore.reset();
    CHECK(in_child([&] { return Keystore::open(folder / "ks") ? 42 : 1; }) == 42);
}

TEST_CASE("a file-size limit stops a change, not the keystore") {
    const Folder folder;
    new_keystore(folder).reset();
    const auto limited = [&] {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{64 * 1024, 64 * 1024};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        auto keystore = Keystore::open(folder / "ks");
        int kept = 0;
        if (!keystore || !(*keystore)->unseal_automatically())
            return 1;
        const auto code = fill(**keystore, kept);
        return code == Errc::no_space && kept > 3 && kept < 100 ? kept : 2;
    };
    const int kept = in_child(limited);
    REQUIRE(kept > 3);
    auto keystore = open_keystore(folder);
    CHECK(must(keystore->list(soon())).size() == static_cast<std::size_t>(kept));
    must(keystore->put("after", material_of(1), {}, soon()));
}

TEST_CASE("a full disk stops a change, not the keystore") {
    if (::geteuid() != 0) {
        WARN("needs root for a filesystem of its own: the file-size limit above stands in");
        return;
    }
    const Folder folder;
    const SmallDisk disk(folder.path());
    if (!disk.mounted) {
        WARN("no tmpfs can be mounted here: the file-size limit above stands in");
        return;
    }
    auto keystore = new_keystore(folder);
    int kept = 0;
    CHECK(fill(*keystore, kept) == Errc::no_space);
    CHECK(kept > 3);
    CHECK(must(keystore->list(soon())).size() == static_cast<std::size_t>(kept));
    write_text(folder / "filler", std::string(192 * 1024, 'f'));
    CHECK(code_of(keystore->backup(folder / "copy", false)) == Errc::no_space);
    CHECK(code_of(Keystore::init(folder / "second", PassphraseUnsealer{secret_of("p")}, cheap)) ==
          Errc::no_space);
    int entries = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
        INFO(entry.path());
        CHECK(entry.path().filename().string().find(".new-") == std::string::npos);
        ++entries;
    }
    CHECK(entries == 5); // the keystore, its lock, its key file, the filler, the second one's lock
    keystore.reset();
    keystore = open_keystore(folder);
    CHECK(must(keystore->list(soon())).size() == static_cast<std::size_t>(kept));
    CHECK(must(keystore->get(must(keystore->info("key 0", soon())).id, soon()))
              .material.equals(material_of(0).bytes()));
}

TEST_CASE("without permission to write, nothing is made and nothing changes") {
    const Folder folder;
    new_keystore(folder).reset();
    const std::string before = text_of(folder / "ks");
    REQUIRE(::chmod((folder / "ks.lock").c_str(), 0666) == 0);
    REQUIRE(::chmod((folder / "ks").c_str(), 0644) == 0);
    REQUIRE(::chmod(folder.path().c_str(), 0555) == 0);
    const auto as_nobody = [&] {
        if (::geteuid() == 0 &&
            (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0))
            return 1;
        const auto made = Keystore::init(folder / "new", PassphraseUnsealer{secret_of("p")}, cheap);
        if (made || made.error().code != Errc::permission)
            return 2;
        auto opened = Keystore::open(folder / "ks");
        if (!opened)
            return opened.error().code == Errc::permission ? 42 : 3;
        // The unsealing file is root's alone.
        return (*opened)->unseal_automatically().error().code == Errc::locked ? 42 : 4;
    };
    CHECK(in_child(as_nobody) == 42);
    REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
    CHECK(text_of(folder / "ks") == before);
    CHECK_FALSE(std::filesystem::exists(folder / "new"));
}

TEST_CASE("no key and no master key stands in any file of the keystore") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    must(keystore->enrol(PassphraseUnsealer{secret_of("Tr0mbone-Vexing-Quilt-4411")}, cheap));
    const Secret recovery = must(keystore->enrol(RecoveryUnsealer{}));
    const auto info = must(keystore->put("a", material_of(1), {}, soon()));
    write_text(folder / "export", must(keystore->export_for_passphrase(
                                      info.id, secret_of("Gherkin/Ample/Zither/9213"), cheap)));
    must(keystore->backup(folder / "copy", false));
    must(keystore->set_state(info.id, KeyState::deactivated, soon()));
    keystore.reset();

    auto database = must(Database::open(folder / "ks", Database::Mode::read_only));
    const auto store = must(read_store_uuid(database));
    const Secret unsealing = must(unsealer_secret(FileUnsealer{folder / "ks.key"}));
    auto keys = must(MasterKeys::derive(
        must(open_slot(store, must(read_slots(database))[0], unsealing)), store));

    std::string files = all_files(folder, "ks.key");
    CHECK(
        contains(text_of(folder / "ks.key"), unsealing.bytes())); // the search finds what is there
    CHECK_FALSE(contains(files, material_of(1).bytes()));
    CHECK_FALSE(contains(files, keys.master.bytes()));
    CHECK_FALSE(contains(files, keys.wrap.bytes()));
    CHECK_FALSE(contains(files, keys.mac.bytes()));
    CHECK_FALSE(contains(files, unsealing.bytes()));
    CHECK_FALSE(contains(files, recovery.bytes()));
    CHECK_FALSE(contains(files, must(recovery_key_of(recovery)).bytes()));
    CHECK_FALSE(contains(files, secret_of("Tr0mbone-Vexing-Quilt-4411").bytes()));
    CHECK_FALSE(contains(files, secret_of("Gherkin/Ample/Zither/9213").bytes()));
    for (const std::string& planted : spellings(keys.master.bytes().first(16)))
        CHECK(contains(files + planted, keys.master.bytes()));
}

#ifndef SANITIZED
TEST_CASE("no key stays in memory once its user has let it go, nor the master key once sealed") {
    const Folder folder;
    const auto key = inverted(material_of(4711));
    auto keystore = new_keystore(folder);
    const auto info = must(keystore->put("a", material_of(4711), {}, soon()));
    const auto exported = must(keystore->export_for_passphrase(info.id, secret_of("p"), cheap));
    CHECK(must(keystore->list(soon())).size() == 1);
    {
        const auto held = must(keystore->get(info.id, soon()));
        CHECK(times_in_memory(key) == 1); // the search finds it where it must be, and only there
        const auto again = must(Keystore::import_wrapped(exported, secret_of("p")));
        CHECK(times_in_memory(key) == 2);
    }
    CHECK(times_in_memory(key) == 0);

    auto database = must(Database::open(folder / "ks", Database::Mode::read_only));
    std::array<std::uint8_t, 16> master{};
    std::array<std::uint8_t, 16> wrap{};
    {
        const auto store = must(read_store_uuid(database));
        const Secret unsealing = must(unsealer_secret(FileUnsealer{folder / "ks.key"}));
        const auto opened = must(MasterKeys::derive(
            must(open_slot(store, must(read_slots(database))[0], unsealing)), store));
        master = inverted(opened.master);
        wrap = inverted(opened.wrap);
    }
    CHECK(times_in_memory(master) == 1);
    CHECK(times_in_memory(wrap) == 1);
    keystore->seal();
    CHECK(times_in_memory(master) == 0);
    CHECK(times_in_memory(wrap) == 0);
}
#endif
