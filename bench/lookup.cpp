// SPDX-License-Identifier: Apache-2.0
// What the data path pays to find out what becomes of a piece of I/O, by number of ranges. The
// ranges lie at random, 4 to 32 KiB long and as far apart, are declared in the must-encrypt map and
// keyed by Associate commands of 60 ranges; LBAs are drawn uniformly over the device, half of them
// for writes. One figure: the cost at 60 ranges over the cost at 1,000,000.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include <time.h>

#include <endpoint.h>

namespace {

constexpr double goal = 0.25;
// Measured by twos, in turn: the first two make the figure, and nothing else is in the cache then.
constexpr std::size_t counts[] = {60, 1'000'000, 1000, 100'000};
constexpr std::size_t lookups = 1 << 17;
constexpr int repetitions = 41;

// Of this thread: what other programs do meanwhile does not count.
double cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

dek_status key_set(void*, dek_association*) {
    return DEK_OK;
}
void key_drop(void*, dek_association*) {}
void random_bytes(void*, void* out, std::size_t n) {
    std::fill_n(static_cast<unsigned char*>(out), n, static_cast<unsigned char>(0x5a));
}

struct Map {
    std::vector<dek_range> ranges;
    std::uint64_t size = 0; // LBAs of the device
};

Map scatter(std::size_t n, std::mt19937_64& random) {
    Map map;
    const auto some = [&] { return 8 * (1 + random() % 8); };
    for (std::size_t i = 0; i < n; ++i) {
        map.size += some();
        map.ranges.push_back({map.size, some()});
        map.size += map.ranges.back().count;
    }
    map.size += some();
    return map;
}

[[noreturn]] void die(const char* what, long code) {
    std::fprintf(stderr, "lookup: %s: %ld\n", what, code);
    std::exit(1);
}

class Subject {
  public:
    explicit Subject(const Map& map) : size_(map.size) {
        dek_endpoint_config config{};
        config.count = map.size;
        config.data_unit = 4096;
        config.class_name = DEK_CLASS_EHBA;
        config.engine = DEK_ENGINE_CPU;
        config.max_associations = 1u << 20;
        config.max_ranges = 1u << 22;
        ops_.key_set = key_set;
        ops_.key_drop = key_drop;
        ops_.random = random_bytes;
        config.ops = &ops_;
        endpoint_ = dek_endpoint_create(&config);
        if (!endpoint_)
            die("endpoint", 0);
        declare(map.ranges);
        const double start = cpu_ns();
        for (std::size_t at = 0; at < map.ranges.size(); at += DEK_MAX_RANGES - 5)
            associate(&map.ranges[at],
                      std::min<std::size_t>(DEK_MAX_RANGES - 5, map.ranges.size() - at));
        install_ns_ = (cpu_ns() - start) / static_cast<double>(map.ranges.size());
    }
    ~Subject() { dek_endpoint_destroy(endpoint_); }
    Subject(const Subject&) = delete;
    Subject& operator=(const Subject&) = delete;

    double install_ns() const { return install_ns_; }

    // Nanoseconds per lookup. Each waits for the one before: in the data path a piece of I/O lies
    // between two lookups, and nothing of them overlaps.
    double measure() {
        const dek_snapshot* snapshot = dek_endpoint_current(endpoint_);
        dek_piece piece{};
        const double start = cpu_ns();
        for (std::size_t i = 0; i < lookups; ++i) {
            random_ ^= random_ << 13;
            random_ ^= random_ >> 7;
            random_ ^= random_ << 17;
            const auto lba = static_cast<std::uint64_t>(
                static_cast<unsigned __int128>(random_ + (sum_ >> 63)) * (size_ - 8) >> 64);
            dek_snapshot_lookup(snapshot, lba, 8, lba & 1, &piece);
            sum_ += piece.count + piece.verdict + (piece.association != nullptr);
        }
        return (cpu_ns() - start) / lookups;
    }
    std::uint64_t sum() const { return sum_; }

  private:
    std::uint64_t size_;
    dek_engine_ops ops_{};
    dek_endpoint* endpoint_;
    dek_change change_{};
    double install_ns_ = 0;
    std::uint64_t random_ = 0x9e3779b97f4a7c15;
    std::uint64_t sum_ = 0;

    void settle(std::uint8_t* block) {
        const auto hold = change_.hold;
        if (change_.next)
            dek_endpoint_published(endpoint_, &change_);
        dek_change_reclaim(&change_);
        if (!hold)
            return;
        dek_endpoint_drained(endpoint_, hold, block, &change_);
        if (change_.next)
            dek_endpoint_published(endpoint_, &change_);
        dek_change_reclaim(&change_);
    }

    void page(unsigned flags, const dek_range* range, std::size_t n) {
        auto request = std::make_unique<dek_ioc_map>();
        request->generation = 1;
        request->flags = flags;
        request->count = static_cast<std::uint32_t>(n);
        for (std::size_t i = 0; i < n; ++i)
            request->entry[i] = {range[i].first, range[i].count, DEK_MAP_ENCRYPT, 0};
        const int err = dek_endpoint_map(endpoint_, request.get(), &change_);
        if (err)
            die("map", err);
        settle(nullptr);
    }

    void declare(const std::vector<dek_range>& ranges) {
        page(DEK_MAP_BEGIN, nullptr, 0);
        for (std::size_t at = 0; at < ranges.size(); at += DEK_MAP_PAGE)
            page(DEK_MAP_ADD, &ranges[at], std::min<std::size_t>(DEK_MAP_PAGE, ranges.size() - at));
        page(DEK_MAP_COMMIT, nullptr, 0);
    }

    void associate(const dek_range* range, std::size_t n) {
        std::uint8_t block[DEK_BLOCK_SIZE];
        std::uint8_t key[DEK_KEY_DATA_SIZE];
        for (unsigned i = 0; i < sizeof key; ++i)
            key[i] = static_cast<std::uint8_t>(i + 1);
        dek_blob blob{};
        blob.present = true;
        blob.type = DEK_BLOB_UNWRAPPED;
        blob.key_length = sizeof key;
        blob.algorithm = DEK_ALG_AES;
        blob.mode = DEK_MODE_XTS;
        blob.key_data = key;
        dek_geometry geometry{};
        geometry.data_unit = 4096;
        dek_block_begin(block, DEK_OP_ASSOCIATE, dek_endpoint_id(endpoint_), 1);
        dek_block_associate(block, 0, &blob, "bench", 5, &geometry, range,
                            static_cast<std::uint32_t>(n));
        dek_block_seal(block);
        dek_endpoint_command(endpoint_, block, &change_);
        settle(block);
        dek_command answer;
        if (dek_block_decode(block, &answer) != DEK_OK || answer.status != DEK_OK)
            die("associate", static_cast<long>(answer.status));
    }
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

} // namespace

int main() {
    std::mt19937_64 random(1);
    std::vector<std::unique_ptr<Subject>> subjects;
    std::vector<std::vector<double>> times(std::size(counts));
    for (const auto n : counts)
        subjects.push_back(std::make_unique<Subject>(scatter(n, random)));
    for (std::size_t pair = 0; pair < subjects.size(); pair += 2)
        for (int r = 0; r < repetitions; ++r)
            for (std::size_t i = pair; i < pair + 2; ++i)
                times[i].push_back(subjects[i]->measure());
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < subjects.size(); ++i) {
        std::printf("%8zu ranges  %7.2f ns per lookup, %7.1f ns per range installed\n", counts[i],
                    median(times[i]), subjects[i]->install_ns());
        sum += subjects[i]->sum();
    }
    std::printf("(checksum %llx)\n", static_cast<unsigned long long>(sum));
    std::printf("figure lookup_60_vs_1m %.3f %.2f\n", median(times[0]) / median(times[1]), goal);
}
