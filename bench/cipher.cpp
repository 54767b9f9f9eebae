// SPDX-License-Identifier: Apache-2.0
// XTS on one core: the engine that volumes get against libcrypto's EVP used as well as plain EVP
// can be (key set once, then one IV for each data unit). Both run in turn within each round; a
// figure is the median over the rounds of the ratio of their times for the same encryption and
// decryption.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <openssl/evp.h>

#include "xts.h"

namespace {

constexpr int rounds = 101;
constexpr std::size_t round_bytes = std::size_t{4} << 20; // per cipher and direction

[[noreturn]] void die(const char* why) {
    std::fprintf(stderr, "bench_cipher: %s\n", why);
    std::exit(1);
}

// Processor time of this thread in seconds: what others do on the machine in between does not
// count.
double now() {
    timespec time;
    if (::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0)
        die("no thread clock");
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string cpu_model() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);)
        if (line.starts_with("model name"))
            return line.substr(line.find(": ") + 2);
    return "unknown CPU";
}

class PlainEvp {
  public:
    explicit PlainEvp(const std::vector<std::uint8_t>& key)
        : encrypt_(keyed(key, 1)), decrypt_(keyed(key, 0)) {}

    bool encrypt(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes,
                 std::uint32_t data_unit, std::uint64_t tweak) const {
        for (std::size_t at = 0; at < bytes; at += data_unit, tweak++) {
            const Iv iv(tweak);
            int done;
            if (EVP_EncryptInit_ex(encrypt_.get(), nullptr, nullptr, nullptr, iv.bytes) != 1 ||
                EVP_EncryptUpdate(encrypt_.get(), to + at, &done, from + at,
                                  static_cast<int>(data_unit)) != 1)
                return false;
        }
        return true;
    }
    bool decrypt(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes,
                 std::uint32_t data_unit, std::uint64_t tweak) const {
        for (std::size_t at = 0; at < bytes; at += data_unit, tweak++) {
            const Iv iv(tweak);
            int done;
            if (EVP_DecryptInit_ex(decrypt_.get(), nullptr, nullptr, nullptr, iv.bytes) != 1 ||
                EVP_DecryptUpdate(decrypt_.get(), to + at, &done, from + at,
                                  static_cast<int>(data_unit)) != 1)
                return false;
        }
        return true;
    }

  private:
    struct Iv {
        explicit Iv(std::uint64_t number) {
            for (int i = 0; i < 8; i++)
                bytes[i] = static_cast<std::uint8_t>(number >> (8 * i));
        }
        std::uint8_t bytes[16] = {};
    };
    struct Free {
        void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
    };
    using Context = std::unique_ptr<EVP_CIPHER_CTX, Free>;

    static Context keyed(const std::vector<std::uint8_t>& key, int encrypt) {
        Context context(EVP_CIPHER_CTX_new());
        if (context == nullptr || EVP_CipherInit_ex(context.get(), EVP_aes_256_xts(), nullptr,
                                                    key.data(), nullptr, encrypt) != 1)
            die("libcrypto has no AES-256-XTS");
        return context;
    }

    Context encrypt_, decrypt_;
};

// An XtsKey with the calls of PlainEvp.
struct Ours {
    dek::XtsKey key;

    bool encrypt(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes,
                 std::uint32_t data_unit, std::uint64_t tweak) const {
        return key.encrypt(to, from, bytes, data_unit, tweak, 1);
    }
    bool decrypt(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes,
                 std::uint32_t data_unit, std::uint64_t tweak) const {
        return key.decrypt(to, from, bytes, data_unit, tweak, 1);
    }
};

struct Buffers {
    explicit Buffers(std::size_t bytes) : plain(allocate(bytes)), cipher(allocate(bytes)) {
        for (std::size_t i = 0; i < bytes; i++) {
            plain.get()[i] = static_cast<std::uint8_t>(i * 131 + i / 251);
            cipher.get()[i] = 0;
        }
    }
    struct Free {
        void operator()(std::uint8_t* at) const { std::free(at); }
    };
    using Pages = std::unique_ptr<std::uint8_t, Free>;
    static Pages allocate(std::size_t bytes) {
        return Pages(static_cast<std::uint8_t*>(std::aligned_alloc(4096, bytes)));
    }
    Pages plain, cipher;
};

// Seconds for round_bytes encrypted and as many decrypted, in requests of `request` bytes.
template <class Cipher>
double seconds(const Cipher& cipher, Buffers& buffers, std::size_t request,
               std::uint32_t data_unit) {
    bool ok = true;
    std::uint64_t tweak = 0;
    const double start = now();
    for (std::size_t done = 0; done < round_bytes; done += request, tweak += request / data_unit)
        ok = ok &&
             cipher.encrypt(buffers.cipher.get(), buffers.plain.get(), request, data_unit, tweak);
    for (std::size_t done = 0; done < round_bytes; done += request, tweak += request / data_unit)
        ok = ok &&
             cipher.decrypt(buffers.plain.get(), buffers.cipher.get(), request, data_unit, tweak);
    const double took = now() - start;
    if (!ok)
        die("a cipher failed");
    return took;
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// Prints GB/s of both and returns the median ratio, ours over EVP.
double compare(const Ours& ours, const PlainEvp& evp, std::size_t request,
               std::uint32_t data_unit) {
    Buffers buffers(request);
    std::vector<double> own, other, ratio;
    for (int round = 0; round < rounds; round++) {
        own.push_back(seconds(ours, buffers, request, data_unit));
        other.push_back(seconds(evp, buffers, request, data_unit));
        ratio.push_back(other.back() / own.back());
    }
    const double gigabytes = 2.0 * round_bytes / 1e9;
    std::printf("%4u-byte units, %4zu KiB requests: %s %5.2f GB/s, EVP %5.2f GB/s, ratio %.2f\n",
                data_unit, request >> 10, dek::xts_engine_name(ours.key.engine()),
                gigabytes / median(own), gigabytes / median(other), median(ratio));
    return median(ratio);
}

} // namespace

int main() {
    std::vector<std::uint8_t> key(64); // nobody's
    for (std::size_t i = 0; i < key.size(); i++)
        key[i] = static_cast<std::uint8_t>(i * 37 + 11);
    auto made = dek::XtsKey::make(key);
    if (!made)
        die(made.error().reason.c_str());
    const Ours ours{std::move(*made)};
    const PlainEvp evp(key);

    const bool vaes = ours.key.engine() == dek::XtsEngine::vaes512;
    std::printf("%s, one core, AES-256-XTS%s\n", cpu_model().c_str(),
                vaes ? "" : "; no VAES-512 here, so the goal is to be no slower than plain EVP");
    for (const std::uint32_t data_unit : {512U, 4096U}) {
        compare(ours, evp, 4096, data_unit);
        compare(ours, evp, std::size_t{1} << 20, data_unit);
    }
    const double large = compare(ours, evp, std::size_t{64} << 10, 4096);
    const double small = compare(ours, evp, std::size_t{64} << 10, 512);
    std::printf("figure xts_4096_vs_openssl %.2f %s\n", large, vaes ? "2.5" : "1.0");
    std::printf("figure xts_512_vs_openssl %.2f %s\n", small, vaes ? "3.2" : "1.0");
    return 0;
}
