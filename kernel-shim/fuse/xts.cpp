// SPDX-License-Identifier: Apache-2.0
// Which engine a key gets, and what every engine may rely on.
#include "xts.h"

#include <bit>
#include <new>

#include <openssl/crypto.h>

#include "base/secret.h"
#include "xts_engine.h"

#ifdef DEK_XTS_VAES
#include <cpuid.h>

#include "xts_vaes.h"
#endif

namespace dek {
namespace {

#ifdef DEK_XTS_VAES

constexpr unsigned bit(unsigned number) {
    return 1U << number;
}

// The operating system must save the registers too: XCR0 has SSE, AVX and the three AVX-512 states.
bool system_saves_zmm() {
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 0xe6) == 0xe6;
}

bool detect_vaes512() {
    constexpr unsigned leaf1_c = bit(1) | bit(19) | bit(25) | bit(27); // pclmul sse4.1 aes osxsave
    constexpr unsigned leaf7_b =
        bit(5) | bit(16) | bit(17) | bit(30) | bit(31); // avx2 avx512f dq bw vl
    constexpr unsigned leaf7_c = bit(9) | bit(10);      // vaes vpclmulqdq
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & leaf1_c) != leaf1_c || !system_saves_zmm())
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & leaf7_b) == leaf7_b &&
           (c & leaf7_c) == leaf7_c;
}

bool has_vaes512() {
    static const bool has = detect_vaes512();
    return has;
}

class VaesXts final : public XtsCipher {
  public:
    explicit VaesXts(std::span<const std::uint8_t> key)
        : memory_(sizeof(vaes::Schedule)), schedule_(new (memory_.bytes().data()) vaes::Schedule) {
        vaes::expand(*schedule_, key.data(), key.size());
    }
    bool encrypt(const XtsUnits& units) const noexcept override {
        return vaes::encrypt(*schedule_, units);
    }
    bool decrypt(const XtsUnits& units) const noexcept override {
        return vaes::decrypt(*schedule_, units);
    }
    bool encrypt_blocks(std::span<std::uint8_t> blocks,
                        const std::uint8_t* tweak) const noexcept override {
        return vaes::encrypt_blocks(*schedule_, blocks.data(), blocks.size() / 16, tweak);
    }
    bool decrypt_blocks(std::span<std::uint8_t> blocks,
                        const std::uint8_t* tweak) const noexcept override {
        return vaes::decrypt_blocks(*schedule_, blocks.data(), blocks.size() / 16, tweak);
    }

  private:
    Secret memory_;
    vaes::Schedule* schedule_; // in memory_
};

std::unique_ptr<const XtsCipher> make_vaes_xts(std::span<const std::uint8_t> key) {
    return std::make_unique<VaesXts>(key);
}

#else

bool has_vaes512() {
    return false;
}

std::unique_ptr<const XtsCipher> make_vaes_xts(std::span<const std::uint8_t>) {
    return nullptr;
}

#endif

XtsEngine resolve(XtsEngine engine) {
    if (engine != XtsEngine::automatic)
        return engine;
    return has_vaes512() ? XtsEngine::vaes512 : XtsEngine::openssl;
}

bool overlap(const std::uint8_t* a, const std::uint8_t* b, std::size_t bytes) {
    const auto first = std::bit_cast<std::uintptr_t>(a), second = std::bit_cast<std::uintptr_t>(b);
    return first != second && (first < second ? second - first : first - second) < bytes;
}

bool valid(const std::uint8_t* dst, const std::uint8_t* src, std::size_t bytes,
           std::uint32_t data_unit, std::uint32_t step) {
    return std::has_single_bit(data_unit) && data_unit >= 512 && data_unit <= 4096 &&
           bytes % data_unit == 0 && (step == 1 || step == data_unit / 512) &&
           !overlap(dst, src, bytes);
}

bool valid_blocks(std::size_t bytes) {
    return bytes >= 16 && bytes <= 512 && bytes % 16 == 0;
}

} // namespace

const char* xts_engine_name(XtsEngine engine) {
    switch (engine) {
    case XtsEngine::vaes512:
        return "vaes512";
    case XtsEngine::openssl:
        return "openssl";
    case XtsEngine::automatic:
        break;
    }
    return "automatic";
}

bool xts_engine_available(XtsEngine engine) {
    return engine != XtsEngine::vaes512 || has_vaes512();
}

XtsKey::XtsKey(std::unique_ptr<const XtsCipher> cipher, XtsEngine engine) noexcept
    : cipher_(std::move(cipher)), engine_(engine) {}
XtsKey::XtsKey(XtsKey&&) noexcept = default;
XtsKey& XtsKey::operator=(XtsKey&&) noexcept = default;
XtsKey::~XtsKey() = default;

Result<XtsKey> XtsKey::make(std::span<const std::uint8_t> key, XtsEngine engine) {
    if (key.size() != 32 && key.size() != 64)
        return fail(Errc::invalid_argument, "an XTS key has 32 or 64 bytes");
    const std::size_t half = key.size() / 2;
    if (CRYPTO_memcmp(key.data(), key.data() + half, half) == 0)
        return fail(Errc::invalid_argument, "the halves of an XTS key must differ");
    engine = resolve(engine);
    if (!xts_engine_available(engine))
        return fail(Errc::unsupported, "this CPU cannot run the vaes512 engine");
    try {
        auto cipher = engine == XtsEngine::vaes512 ? make_vaes_xts(key) : make_openssl_xts(key);
        if (cipher != nullptr)
            return XtsKey(std::move(cipher), engine);
        return fail(Errc::unavailable, "the cryptographic library refused the XTS key");
    } catch (const std::bad_alloc&) {
        return fail(Errc::unavailable, "there is no memory that can be locked for an XTS key");
    }
}

bool XtsKey::encrypt(std::uint8_t* dst, const std::uint8_t* src, std::size_t bytes,
                     std::uint32_t data_unit, std::uint64_t tweak,
                     std::uint32_t step) const noexcept {
    if (cipher_ == nullptr || !valid(dst, src, bytes, data_unit, step))
        return false;
    return bytes == 0 || cipher_->encrypt({dst, src, bytes / data_unit, data_unit, tweak, step});
}

bool XtsKey::decrypt(std::uint8_t* dst, const std::uint8_t* src, std::size_t bytes,
                     std::uint32_t data_unit, std::uint64_t tweak,
                     std::uint32_t step) const noexcept {
    if (cipher_ == nullptr || !valid(dst, src, bytes, data_unit, step))
        return false;
    return bytes == 0 || cipher_->decrypt({dst, src, bytes / data_unit, data_unit, tweak, step});
}

bool XtsKey::encrypt_blocks(std::span<std::uint8_t> blocks,
                            std::span<const std::uint8_t, 16> tweak) const noexcept {
    return cipher_ != nullptr && valid_blocks(blocks.size()) &&
           cipher_->encrypt_blocks(blocks, tweak.data());
}

bool XtsKey::decrypt_blocks(std::span<std::uint8_t> blocks,
                            std::span<const std::uint8_t, 16> tweak) const noexcept {
    return cipher_ != nullptr && valid_blocks(blocks.size()) &&
           cipher_->decrypt_blocks(blocks, tweak.data());
}

} // namespace dek
