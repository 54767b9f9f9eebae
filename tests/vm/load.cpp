// SPDX-License-Identifier: Apache-2.0
// Writes self-describing sectors (sector.h) at random places of a device or a file, several at a
// time, past the page cache, and reads back what it wrote.
//   vm_load TARGET [OPTION VALUE]...          until SIGTERM, or for so long
//   vm_load verify TARGET --state FILE        everything that was written, once more
//     --range FIRST-LAST    LBAs to be written (all); may be repeated
//     --size SECTORS        makes the file so long
//     --seconds N           for so long
//     --state FILE          what was written last where: read if it is there, kept at the end
//     --depth N (8)  --most SECTORS (64)  --block BYTES (4096)  --reads PERCENT (40)  --seed N
//     --fsync N             after so many writes, without waiting for it
//     --pause US            between one I/O and the next
//     --stalls FILE         a line `BEGAN US` (BEGAN in microseconds since 1970) for each time of
//     --stalls-from US      (1000) at least in which nothing that was under way ended
// Ends with a line of NAME=VALUE; exit status 0 when all was as it had been written. Nothing for
// 60 s is a hang: exit status 3.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <libaio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scanner.h"
#include "sector.h"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
constexpr auto hang = std::chrono::seconds(60);

struct Options {
    std::string target, state, stalls;
    std::vector<LbaRange> ranges;
    std::uint64_t size = 0, seed = 1;
    unsigned seconds = 0, depth = 8, most = 64, block = 4096, reads = 40, fsync = 0;
    microseconds pause{0}, stalls_from{1000};
    bool verify = false;
};

volatile std::sig_atomic_t stopped = 0;

struct Buffer {
    explicit Buffer(std::size_t size)
        : bytes(static_cast<std::uint8_t*>(std::aligned_alloc(4096, size)), std::free) {}
    std::unique_ptr<std::uint8_t, decltype(&std::free)> bytes;
};

struct Slot {
    iocb request{}; // first: what libaio gives back
    Buffer buffer;
    std::uint64_t lba = 0, count = 0; // sectors
    Clock::time_point began;
    bool free = true;
    explicit Slot(std::size_t size) : buffer(size) {}
};

struct Counts {
    std::uint64_t writes = 0, reads = 0, fsyncs = 0, verified = 0, errors = 0, wrong = 0;
    microseconds stall{0}, latency{0};
};

// Single-threaded.
class Load {
  public:
    explicit Load(const Options& options);
    ~Load() { ::io_destroy(context_); }
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    void run();
    void verify();
    void keep_state() const;
    int report() const;

  private:
    void open_target();
    void read_state();
    bool submit_one();
    bool place(Slot& slot);
    bool choose(Slot& slot, bool write);
    void submit(Slot& slot);
    void collect(microseconds patience);
    void remember(LbaRange written);
    void finish(Slot& slot, long result, Clock::time_point now);
    void compare(std::uint64_t lba, std::uint64_t count, const std::uint8_t* data);
    void say(const char* what, std::uint64_t lba, long result);

    Options options_;
    int fd_ = -1;
    io_context_t context_ = nullptr;
    std::vector<std::uint32_t> passes_; // of each sector; 0: not ours, or not known
    std::vector<bool> busy_;            // sectors under way
    std::vector<LbaRange> written_;     // the latest ones
    std::vector<std::unique_ptr<Slot>> slots_;
    unsigned under_way_ = 0, since_fsync_ = 0, said_ = 0;
    std::uint32_t pass_ = 0;
    std::mt19937_64 random_;
    Clock::time_point last_; // something ended, or began when nothing was under way
    Counts counts_;
    std::FILE* stalls_ = nullptr;
};

Load::Load(const Options& options) : options_(options), random_(options.seed) {
    open_target();
    busy_.resize(passes_.size());
    read_state();
    if (options_.ranges.empty())
        options_.ranges.push_back({0, passes_.size() - 1});
    for (const LbaRange& r : options_.ranges)
        if (r.last >= passes_.size())
            throw std::runtime_error("a range runs past the end");
    if (!options_.stalls.empty() && !(stalls_ = std::fopen(options_.stalls.c_str(), "we")))
        throw std::runtime_error(options_.stalls + ": " + std::strerror(errno));
    if (const int e = ::io_setup(static_cast<int>(options_.depth), &context_); e < 0)
        throw std::runtime_error(std::string("io_setup: ") + std::strerror(-e));
    for (unsigned i = 0; i < options_.depth; i++)
        slots_.push_back(std::make_unique<Slot>(options_.most * sector_size));
}

void Load::open_target() {
    const int making = options_.size ? O_CREAT : 0;
    fd_ = ::open(options_.target.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | making, 0600);
    if (fd_ < 0)
        throw std::runtime_error(options_.target + ": " + std::strerror(errno));
    if (options_.size && ::ftruncate(fd_, static_cast<off_t>(options_.size * sector_size)) < 0)
        throw std::runtime_error(std::string("ftruncate: ") + std::strerror(errno));
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (end < static_cast<off_t>(options_.block))
        throw std::runtime_error(options_.target + " is too small");
    passes_.resize(static_cast<std::uint64_t>(end) / sector_size);
}

void Load::read_state() {
    std::ifstream file(options_.state, std::ios::binary);
    if (!file)
        return;
    std::vector<std::uint32_t> kept(passes_.size());
    file.read(reinterpret_cast<char*>(kept.data()),
              static_cast<std::streamsize>(kept.size() * sizeof kept[0]));
    kept.resize(static_cast<std::size_t>(file.gcount()) / sizeof kept[0]); // the target has grown
    std::copy(kept.begin(), kept.end(), passes_.begin());
    for (const std::uint32_t pass : kept)
        pass_ = std::max(pass_, pass);
}

void Load::keep_state() const {
    if (options_.state.empty())
        return;
    std::ofstream file(options_.state, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(passes_.data()),
               static_cast<std::streamsize>(passes_.size() * sizeof passes_[0]));
    if (!file.flush())
        throw std::runtime_error(options_.state + " cannot be written");
}

void Load::say(const char* what, std::uint64_t lba, long result) {
    if (said_++ < 20)
        std::printf("LBA %llu: %s%s%s\n", static_cast<unsigned long long>(lba), what,
                    result < 0 ? ": " : "",
                    result < 0 ? std::strerror(static_cast<int>(-result)) : "");
}

// Anywhere in a range. False: there is no whole block in it.
bool Load::place(Slot& slot) {
    const std::uint64_t block = options_.block / sector_size;
    const LbaRange& r = options_.ranges[random_() % options_.ranges.size()];
    const std::uint64_t first = (r.first + block - 1) / block, end = (r.last + 1) / block;
    if (first >= end)
        return false;
    const std::uint64_t at = first + random_() % (end - first);
    slot.lba = at * block;
    slot.count = block * std::min(end - at, 1 + random_() % std::max(1UL, options_.most / block));
    return true;
}

// A place that nothing is under way at; of a read, where something was written not long ago.
bool Load::choose(Slot& slot, bool write) {
    if (write) {
        if (!place(slot))
            return false;
    } else {
        if (written_.empty())
            return false;
        const LbaRange& r = written_[random_() % written_.size()];
        slot.lba = r.first;
        slot.count = r.last - r.first + 1;
    }
    const auto begin = busy_.begin() + static_cast<std::ptrdiff_t>(slot.lba),
               end = begin + static_cast<std::ptrdiff_t>(slot.count);
    return std::find(begin, end, true) == end;
}

void Load::submit(Slot& slot) {
    for (std::uint64_t i = 0; i < slot.count; i++)
        busy_[slot.lba + i] = true;
    slot.free = false;
    slot.began = Clock::now();
    if (under_way_++ == 0)
        last_ = slot.began;
    iocb* request = &slot.request;
    if (const int e = ::io_submit(context_, 1, &request); e != 1)
        throw std::runtime_error(std::string("io_submit: ") + std::strerror(-e));
}

// False: there is nothing to be done at the moment.
bool Load::submit_one() {
    const auto free = std::find_if(slots_.begin(), slots_.end(), [](auto& s) { return s->free; });
    if (free == slots_.end())
        return false;
    Slot& slot = **free;
    if (options_.fsync && since_fsync_ >= options_.fsync) {
        since_fsync_ = 0;
        slot.lba = slot.count = 0;
        ::io_prep_fdsync(&slot.request, fd_);
        submit(slot);
        return true;
    }
    const bool write = random_() % 100 >= options_.reads;
    if (!choose(slot, write))
        return false;
    const auto at = static_cast<long long>(slot.lba * sector_size);
    if (!write) {
        ::io_prep_pread(&slot.request, fd_, slot.buffer.bytes.get(), slot.count * sector_size, at);
    } else {
        pass_++;
        since_fsync_++;
        for (std::uint64_t i = 0; i < slot.count; i++) {
            passes_[slot.lba + i] = pass_;
            sector_fill(slot.buffer.bytes.get() + i * sector_size, {slot.lba + i, pass_});
        }
        ::io_prep_pwrite(&slot.request, fd_, slot.buffer.bytes.get(), slot.count * sector_size, at);
    }
    submit(slot);
    return true;
}

void Load::compare(std::uint64_t lba, std::uint64_t count, const std::uint8_t* data) {
    std::array<std::uint8_t, sector_size> expected;
    for (std::uint64_t i = 0; i < count; i++) {
        if (passes_[lba + i] == 0)
            continue;
        counts_.verified++;
        sector_fill(expected.data(), {lba + i, passes_[lba + i]});
        if (std::memcmp(expected.data(), data + i * sector_size, sector_size) == 0)
            continue;
        counts_.wrong++;
        const auto found = sector_read(data + i * sector_size);
        const std::string what =
            "pass " + std::to_string(passes_[lba + i]) + " was written, and there is " +
            (found ? "LBA " + std::to_string(found->lba) + " of pass " + std::to_string(found->pass)
                   : std::string("something else"));
        say(what.c_str(), lba + i, 0);
    }
}

void Load::remember(LbaRange written) {
    if (written_.size() < 1024)
        written_.push_back(written);
    else
        written_[random_() % written_.size()] = written;
}

void Load::finish(Slot& slot, long result, Clock::time_point now) {
    const bool write = slot.request.aio_lio_opcode == IO_CMD_PWRITE, sync = slot.count == 0;
    const auto took = std::chrono::duration_cast<microseconds>(now - slot.began);
    counts_.latency = std::max(counts_.latency, took);
    (sync ? counts_.fsyncs : write ? counts_.writes : counts_.reads)++;
    slot.free = true;
    under_way_--;
    for (std::uint64_t i = 0; i < slot.count; i++)
        busy_[slot.lba + i] = false;
    if (result == static_cast<long>(slot.count * sector_size)) {
        if (write)
            remember({slot.lba, slot.lba + slot.count - 1});
        else if (!sync)
            compare(slot.lba, slot.count, slot.buffer.bytes.get());
        return;
    }
    counts_.errors++;
    say(sync ? "the fsync fails" : write ? "the write fails" : "the read fails", slot.lba, result);
    for (std::uint64_t i = 0; write && i < slot.count; i++)
        passes_[slot.lba + i] = 0;
}

void Load::collect(microseconds patience) {
    std::array<io_event, 64> events;
    timespec wait{patience.count() / 1000000, patience.count() % 1000000 * 1000};
    const int n = ::io_getevents(context_, 1, events.size(), events.data(), &wait);
    const auto now = Clock::now();
    if (n <= 0) {
        if (now - last_ < hang)
            return;
        std::printf("nothing ends for %lld s, %u are under way\n",
                    static_cast<long long>(hang / std::chrono::seconds(1)), under_way_);
        std::fflush(stdout);
        std::_Exit(3);
    }
    const auto gap = std::chrono::duration_cast<microseconds>(now - last_);
    counts_.stall = std::max(counts_.stall, gap);
    if (stalls_ && gap >= options_.stalls_from) {
        const auto ended = std::chrono::duration_cast<microseconds>(
            std::chrono::system_clock::now().time_since_epoch());
        std::fprintf(stalls_, "%lld %lld\n", static_cast<long long>((ended - gap).count()),
                     static_cast<long long>(gap.count()));
        std::fflush(stalls_);
    }
    for (int i = 0; i < n; i++)
        finish(*reinterpret_cast<Slot*>(events[static_cast<std::size_t>(i)].obj),
               static_cast<long>(events[static_cast<std::size_t>(i)].res), now);
    last_ = Clock::now(); // what comparing took is nobody's stall
}

void Load::run() {
    const auto start = Clock::now();
    auto next = start;
    const auto over = [&] {
        return stopped != 0 || (options_.seconds != 0 &&
                                Clock::now() - start >= std::chrono::seconds(options_.seconds));
    };
    while (!over()) {
        if (options_.pause.count() == 0) {
            for (unsigned tries = 0; under_way_ < options_.depth && tries < 64; tries++)
                submit_one();
            if (under_way_ != 0)
                collect(microseconds(1000000));
            continue;
        }
        const auto left = std::chrono::duration_cast<microseconds>(next - Clock::now());
        if (left.count() <= 0) {
            submit_one();
            next = Clock::now() + options_.pause;
        } else if (under_way_ == 0) {
            std::this_thread::sleep_for(left);
        } else {
            collect(under_way_ == options_.depth ? microseconds(1000000) : left);
        }
    }
    while (under_way_ != 0)
        collect(microseconds(1000000));
}

void Load::verify() {
    constexpr std::uint64_t most = 128;
    const Buffer buffer(most * sector_size);
    for (const LbaRange& r : options_.ranges) {
        for (std::uint64_t lba = r.first; lba <= r.last; lba += most) {
            const std::uint64_t count = std::min(most, r.last + 1 - lba);
            const auto got = ::pread(fd_, buffer.bytes.get(), count * sector_size,
                                     static_cast<off_t>(lba * sector_size));
            counts_.reads++;
            if (got == static_cast<ssize_t>(count * sector_size)) {
                compare(lba, count, buffer.bytes.get());
            } else {
                counts_.errors++;
                say("the read fails", lba, got < 0 ? -errno : 0);
            }
        }
    }
}

int Load::report() const {
    const auto n = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf("writes=%llu reads=%llu fsyncs=%llu verified=%llu errors=%llu wrong=%llu "
                "stall_ms=%llu latency_ms=%llu\n",
                n(counts_.writes), n(counts_.reads), n(counts_.fsyncs), n(counts_.verified),
                n(counts_.errors), n(counts_.wrong),
                n(static_cast<std::uint64_t>(counts_.stall.count()) / 1000),
                n(static_cast<std::uint64_t>(counts_.latency.count()) / 1000));
    const bool looked = counts_.verified > 0 || (!options_.verify && options_.reads == 0);
    return counts_.errors == 0 && counts_.wrong == 0 && looked ? 0 : 1;
}

void option(Options& o, const std::string& name, const std::string& value) {
    const auto number = [&] { return static_cast<unsigned>(std::stoul(value)); };
    if (name == "--range")
        o.ranges.push_back(parse_lba_range(value));
    else if (name == "--size")
        o.size = std::stoull(value);
    else if (name == "--seed")
        o.seed = std::stoull(value);
    else if (name == "--state")
        o.state = value;
    else if (name == "--stalls")
        o.stalls = value;
    else if (name == "--stalls-from")
        o.stalls_from = microseconds(number());
    else if (name == "--pause")
        o.pause = microseconds(number());
    else if (name == "--seconds")
        o.seconds = number();
    else if (name == "--depth")
        o.depth = number();
    else if (name == "--most")
        o.most = number();
    else if (name == "--block")
        o.block = number();
    else if (name == "--reads")
        o.reads = number();
    else if (name == "--fsync")
        o.fsync = number();
    else
        throw std::runtime_error("no option " + name);
}

Options options_of(int argc, char** argv) {
    Options o;
    int at = 1;
    if (at < argc && std::strcmp(argv[at], "verify") == 0) {
        o.verify = true;
        at++;
    }
    if (at == argc)
        throw std::runtime_error("usage: vm_load [verify] TARGET [OPTION VALUE]...");
    o.target = argv[at++];
    for (; at < argc; at += 2) {
        if (at + 1 == argc)
            throw std::runtime_error(std::string(argv[at]) + " needs a value");
        option(o, argv[at], argv[at + 1]);
    }
    if (o.block < sector_size || o.block % sector_size || o.most * sector_size < o.block ||
        o.depth == 0 || o.depth > 64)
        throw std::runtime_error("these sizes do not go together");
    return o;
}

} // namespace

int main(int argc, char** argv) {
    struct sigaction action {};
    action.sa_handler = [](int) { stopped = 1; };
    for (const int signal : {SIGTERM, SIGINT})
        ::sigaction(signal, &action, nullptr);
    try {
        const Options options = options_of(argc, argv);
        Load load(options);
        if (options.verify) {
            load.verify();
        } else {
            load.run();
            load.keep_state();
        }
        return load.report();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_load: %s\n", e.what());
        return 2;
    }
}
