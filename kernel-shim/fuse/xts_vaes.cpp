// SPDX-License-Identifier: Apache-2.0
// AES-XTS, 512 bytes (8 registers of 4 blocks) at a time. What it costs beyond the AES rounds is
// kept off the two ports that do AES:
//  * the first tweaks of up to 16 data units are encrypted at once;
//  * tweaks are kept with the last round key already added (a "mask"): the second addition of the
//    tweak is then the last AES round itself, and the first one a single three-way XOR;
//  * the masks of the next 512 bytes are computed between the rounds of these, by shifts.
// Round keys, and what is derived from them, are read from the schedule where they are needed, so
// that the compiler has no reason to keep any on the stack.
#include "xts_vaes.h"

#include <immintrin.h>

#ifdef __clang__
#define DEK_UNROLL _Pragma("unroll")
#else
#define DEK_UNROLL _Pragma("GCC unroll 16")
#endif
#define DEK_INLINE static inline __attribute__((always_inline))

namespace dek::vaes {
namespace {

constexpr int lanes = 8;                 // registers in flight
constexpr std::size_t chunk_bytes = 512; // what they hold
constexpr std::size_t batch_units = 16;  // data units whose tweaks are encrypted at once
constexpr int xor3 = 0x96;               // truth table of a ^ b ^ c

DEK_INLINE __m512i broadcast(const void* block) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(block)));
}

// x^128 = x^7 + x^2 + x + 1 in the field of the tweaks.
DEK_INLINE __m512i field_polynomial() {
    return _mm512_set_epi64(0, 0x87, 0, 0x87, 0, 0x87, 0, 0x87);
}

// Lane i times x^(From + i).
template <int From>
DEK_INLINE __m512i times_x_lanes(__m512i tweak) {
    constexpr int a = From, b = From + 1, c = From + 2, d = From + 3;
    const __m512i up = _mm512_set_epi64(d, d, c, c, b, b, a, a);
    const __m512i down =
        _mm512_set_epi64(64 - d, 64 - d, 64 - c, 64 - c, 64 - b, 64 - b, 64 - a, 64 - a);
    const __m512i carry = _mm512_srlv_epi64(tweak, down);
    const __m512i reduced = _mm512_clmulepi64_epi128(carry, field_polynomial(), 0x01);
    return _mm512_ternarylogic_epi64(_mm512_sllv_epi64(tweak, up), _mm512_bslli_epi128(carry, 8),
                                     reduced, xor3);
}

// Tells the compiler that x and y are needed after what `state` holds now and before what it holds
// next. Left alone it moves the work on masks to where it delays AES rounds.
DEK_INLINE void order(__m512i (&state)[lanes], __m512i& x, __m512i& y) {
    asm(""
        : "+v"(state[0]), "+v"(state[1]), "+v"(state[2]), "+v"(state[3]), "+v"(state[4]),
          "+v"(state[5]), "+v"(state[6]), "+v"(state[7]), "+v"(x), "+v"(y));
}

// Each 128-bit lane of a and b times x^(8 * Bytes), Bytes < 8, in two halves of equal length. By
// shifts: a carry-less multiplication would take the place of an AES round. Both carries share one
// register.
template <int Bytes>
struct TimesX8 {
    DEK_INLINE void first_half(__m512i (&state)[lanes], __m512i& a, __m512i& b, __m512i& to_a,
                               __m512i& to_b) {
        order(state, a, b);
        const __m512i carry = _mm512_srli_epi64(_mm512_unpackhi_epi64(a, b), 64 - 8 * Bytes);
        to_a = _mm512_ternarylogic_epi64(_mm512_slli_epi64(carry, 1), _mm512_slli_epi64(carry, 2),
                                         _mm512_slli_epi64(carry, 7), xor3);
        to_b = _mm512_alignr_epi8(b, b, 16 - Bytes);
        order(state, to_a, to_b);
    }
    DEK_INLINE void second_half(__m512i (&state)[lanes], __m512i& a, __m512i add, __m512i& to_a,
                                __m512i& to_b) {
        order(state, a, to_a);
        const __m512i low_a = _mm512_maskz_mov_epi64(0x55, to_a);
        const __m512i low_b = _mm512_maskz_unpackhi_epi64(0x55, to_a, to_a);
        to_a = _mm512_alignr_epi8(a, a, 16 - Bytes);
        to_a = _mm512_ternarylogic_epi64(to_a, low_a, add, xor3);
        to_b = _mm512_ternarylogic_epi64(to_b, low_b, add, xor3);
        order(state, to_a, to_b);
    }
};

// The tweaks of one chunk, in order, each with the last round key added: its masks.
struct Masks {
    __m512i of[lanes];
};

// Where the masks of the next chunk come from: the same data unit, ...
struct SameUnit {
    DEK_INLINE void step(int round, __m512i (&state)[lanes], const Direction& way, Masks& now,
                         Masks& next, const std::uint8_t*) {
        if (round > lanes)
            return;
        const int a = (round - 1) / 2 * 2, b = a + 1;
        if (round % 2 == 1)
            TimesX8<4>::first_half(state, now.of[a], now.of[b], next.of[a], next.of[b]);
        else
            TimesX8<4>::second_half(state, now.of[a], broadcast(way.x32), next.of[a], next.of[b]);
    }
};

// ... or the encrypted tweak of another one.
struct OtherUnit {
    DEK_INLINE void step(int round, __m512i (&state)[lanes], const Direction& way, Masks&,
                         Masks& next, const std::uint8_t* tweak) {
        __m512i* m = next.of;
        switch (round) {
        case 1:
            m[0] = _mm512_xor_si512(times_x_lanes<0>(broadcast(tweak)), broadcast(way.last));
            break;
        case 2:
            m[1] = _mm512_xor_si512(times_x_lanes<4>(broadcast(tweak)), broadcast(way.last));
            break;
        case 3:
            return TimesX8<1>::first_half(state, m[0], m[1], m[2], m[3]);
        case 4:
            return TimesX8<1>::second_half(state, m[0], broadcast(way.x8), m[2], m[3]);
        case 5:
            return TimesX8<2>::first_half(state, m[0], m[1], m[4], m[5]);
        case 6:
            return TimesX8<2>::second_half(state, m[0], broadcast(way.x16), m[4], m[5]);
        case 7:
            return TimesX8<2>::first_half(state, m[2], m[3], m[6], m[7]);
        case 8:
            return TimesX8<2>::second_half(state, m[2], broadcast(way.x16), m[6], m[7]);
        default:
            break;
        }
    }
};

template <bool Encrypt>
DEK_INLINE __m512i aes_round(__m512i state, __m512i key) {
    return Encrypt ? _mm512_aesenc_epi128(state, key) : _mm512_aesdec_epi128(state, key);
}

template <bool Encrypt>
DEK_INLINE __m512i aes_last(__m512i state, __m512i key) {
    return Encrypt ? _mm512_aesenclast_epi128(state, key) : _mm512_aesdeclast_epi128(state, key);
}

// 512 bytes; `masks` becomes those of the chunk after it.
template <int Rounds, bool Encrypt, class Next>
DEK_INLINE void chunk(const Direction& way, Masks& masks, const std::uint8_t* tweak,
                      std::uint8_t* to, const std::uint8_t* from) {
    __m512i state[lanes];
    Masks next;
    const __m512i whiten = broadcast(way.whiten);
    DEK_UNROLL
    for (int i = 0; i < lanes; i++)
        state[i] =
            _mm512_ternarylogic_epi64(_mm512_loadu_si512(from + 64 * i), masks.of[i], whiten, xor3);
    DEK_UNROLL
    for (int round = 1; round < Rounds; round++) {
        const __m512i key = broadcast(way.keys[round]);
        DEK_UNROLL
        for (int i = 0; i < lanes; i++)
            state[i] = aes_round<Encrypt>(state[i], key);
        Next::step(round, state, way, masks, next, tweak);
    }
    DEK_UNROLL
    for (int i = 0; i < lanes; i++)
        _mm512_storeu_si512(to + 64 * i, aes_last<Encrypt>(state[i], masks.of[i]));
    masks = next;
}

// The masks of the first chunk of all, with no rounds to hide behind.
DEK_INLINE Masks first_masks(const Direction& way, const std::uint8_t* tweak) {
    __m512i state[lanes] = {};
    Masks first;
    DEK_UNROLL
    for (int round = 1; round <= lanes; round++)
        OtherUnit::step(round, state, way, first, first, tweak);
    return first;
}

using Tweaks = std::uint8_t[batch_units][16];

// Encrypts Registers * 4 tweak numbers, `number` the first.
template <int Rounds, int Registers>
DEK_INLINE void encrypt_tweaks(const std::uint8_t (*keys)[16], std::uint64_t number,
                               std::uint64_t step, Tweaks& tweaks) {
    const __m512i by = _mm512_set_epi64(0, 3 * step, 0, 2 * step, 0, step, 0, 0);
    __m512i state[Registers];
    DEK_UNROLL
    for (int i = 0; i < Registers; i++) {
        const auto base = static_cast<long long>(number + 4 * i * step);
        const __m512i numbers = _mm512_add_epi64(_mm512_maskz_set1_epi64(0x55, base), by);
        state[i] = _mm512_xor_si512(numbers, broadcast(keys[0]));
    }
    DEK_UNROLL
    for (int round = 1; round < Rounds; round++) {
        const __m512i key = broadcast(keys[round]);
        DEK_UNROLL
        for (int i = 0; i < Registers; i++)
            state[i] = _mm512_aesenc_epi128(state[i], key);
    }
    const __m512i last = broadcast(keys[Rounds]);
    DEK_UNROLL
    for (int i = 0; i < Registers; i++)
        _mm512_storeu_si512(tweaks[4 * i], _mm512_aesenclast_epi128(state[i], last));
}

template <int Rounds>
DEK_INLINE void encrypt_batch(const std::uint8_t (*keys)[16], const XtsUnits& units,
                              std::size_t from, Tweaks& tweaks) {
    if (from >= units.count)
        return;
    const std::uint64_t number = units.first + from * units.step;
    if (units.count - from <= 4)
        encrypt_tweaks<Rounds, 1>(keys, number, units.step, tweaks);
    else
        encrypt_tweaks<Rounds, 4>(keys, number, units.step, tweaks);
}

// Leaves nothing behind in the registers. The tweaks on the stack are wiped by their owner.
DEK_INLINE void clear_registers() {
    asm volatile("vzeroall\n\t"
                 "vpxorq %%zmm16, %%zmm16, %%zmm16\n\t"
                 "vpxorq %%zmm17, %%zmm17, %%zmm17\n\t"
                 "vpxorq %%zmm18, %%zmm18, %%zmm18\n\t"
                 "vpxorq %%zmm19, %%zmm19, %%zmm19\n\t"
                 "vpxorq %%zmm20, %%zmm20, %%zmm20\n\t"
                 "vpxorq %%zmm21, %%zmm21, %%zmm21\n\t"
                 "vpxorq %%zmm22, %%zmm22, %%zmm22\n\t"
                 "vpxorq %%zmm23, %%zmm23, %%zmm23\n\t"
                 "vpxorq %%zmm24, %%zmm24, %%zmm24\n\t"
                 "vpxorq %%zmm25, %%zmm25, %%zmm25\n\t"
                 "vpxorq %%zmm26, %%zmm26, %%zmm26\n\t"
                 "vpxorq %%zmm27, %%zmm27, %%zmm27\n\t"
                 "vpxorq %%zmm28, %%zmm28, %%zmm28\n\t"
                 "vpxorq %%zmm29, %%zmm29, %%zmm29\n\t"
                 "vpxorq %%zmm30, %%zmm30, %%zmm30\n\t"
                 "vpxorq %%zmm31, %%zmm31, %%zmm31\n\t" ::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",
                       "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
                       "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

template <class T>
DEK_INLINE void wipe(T& secret) {
    __builtin_memset(&secret, 0, sizeof(secret));
    asm volatile("" ::"r"(&secret) : "memory");
}

// Tweaks are encrypted one batch ahead, so that the AES of the data hides them.
template <int Rounds, bool Encrypt>
__attribute__((noinline)) void run(const Schedule& schedule, const XtsUnits& units) {
    const Direction& way = Encrypt ? schedule.encrypt : schedule.decrypt;
    alignas(64) Tweaks tweaks[2];
    encrypt_batch<Rounds>(schedule.tweak, units, 0, tweaks[0]);
    Masks masks = first_masks(way, tweaks[0][0]);
    std::uint8_t* to = units.to;
    const std::uint8_t* from = units.from;
    for (std::size_t unit = 0; unit < units.count; unit++) {
        const std::size_t place = unit % batch_units;
        if (place == 0)
            encrypt_batch<Rounds>(schedule.tweak, units, unit + batch_units,
                                  tweaks[(unit / batch_units + 1) % 2]);
        const std::uint8_t* last = from + units.bytes_per_unit - chunk_bytes;
        for (; from < last; from += chunk_bytes, to += chunk_bytes)
            chunk<Rounds, Encrypt, SameUnit>(way, masks, nullptr, to, from);
        const std::size_t after = (unit + 1) % (2 * batch_units);
        chunk<Rounds, Encrypt, OtherUnit>(
            way, masks, tweaks[after / batch_units][after % batch_units], to, from);
        from += chunk_bytes;
        to += chunk_bytes;
    }
    wipe(tweaks);
    clear_registers();
}

template <int Rounds>
DEK_INLINE void encrypt_raw_tweak(const std::uint8_t (*keys)[16], const std::uint8_t* raw,
                                  std::uint8_t* tweak) {
    __m512i state = _mm512_xor_si512(broadcast(raw), broadcast(keys[0]));
    for (int round = 1; round < Rounds; round++)
        state = _mm512_aesenc_epi128(state, broadcast(keys[round]));
    state = _mm512_aesenclast_epi128(state, broadcast(keys[Rounds]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(tweak), _mm512_castsi512_si128(state));
}

template <int Rounds, bool Encrypt>
__attribute__((noinline)) void run_blocks(const Schedule& schedule, std::uint8_t* blocks,
                                          std::size_t count, const std::uint8_t* raw) {
    const Direction& way = Encrypt ? schedule.encrypt : schedule.decrypt;
    std::uint8_t tweak[16], text[chunk_bytes] = {};
    encrypt_raw_tweak<Rounds>(schedule.tweak, raw, tweak);
    Masks masks = first_masks(way, tweak);
    __builtin_memcpy(text, blocks, count * 16);
    chunk<Rounds, Encrypt, OtherUnit>(way, masks, tweak, text, text);
    __builtin_memcpy(blocks, text, count * 16);
    wipe(text);
    wipe(tweak);
    clear_registers();
}

template <bool Encrypt>
bool run_any(const Schedule& schedule, const XtsUnits& units) {
    if (schedule.rounds == 14)
        run<14, Encrypt>(schedule, units);
    else if (schedule.rounds == 10)
        run<10, Encrypt>(schedule, units);
    else
        return false;
    return true;
}

template <bool Encrypt>
bool run_any_blocks(const Schedule& schedule, std::uint8_t* blocks, std::size_t count,
                    const std::uint8_t* tweak) {
    if (schedule.rounds == 14)
        run_blocks<14, Encrypt>(schedule, blocks, count, tweak);
    else if (schedule.rounds == 10)
        run_blocks<10, Encrypt>(schedule, blocks, count, tweak);
    else
        return false;
    return true;
}

// FIPS 197, 5.2: `words` is 4 (AES-128) or 8 (AES-256). Made in place, word by word.
void expand_key(std::uint8_t (*keys)[16], const std::uint8_t* key, int words) {
    static const std::uint8_t round_constants[] = {0x01, 0x02, 0x04, 0x08, 0x10,
                                                   0x20, 0x40, 0x80, 0x1b, 0x36};
    std::uint8_t* bytes = keys[0];
    __builtin_memcpy(bytes, key, 4 * static_cast<std::size_t>(words));
    for (int i = words; i < 4 * (words + 7); i++) {
        int word, previous;
        __builtin_memcpy(&previous, bytes + 4 * (i - 1), 4);
        __builtin_memcpy(&word, bytes + 4 * (i - words), 4);
        const __m128i substituted = _mm_aeskeygenassist_si128(_mm_set1_epi32(previous), 0);
        if (i % words == 0)
            previous = _mm_extract_epi32(substituted, 1) ^ round_constants[i / words - 1];
        else if (words == 8 && i % words == 4)
            previous = _mm_extract_epi32(substituted, 0);
        word ^= previous;
        __builtin_memcpy(bytes + 4 * i, &word, 4);
    }
}

DEK_INLINE __m128i load(const std::uint8_t (&block)[16]) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(block));
}

DEK_INLINE void store(std::uint8_t (&block)[16], __m128i value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(block), value);
}

void invert_keys(Schedule& schedule, int rounds) {
    for (int round = 0; round <= rounds; round++) {
        const __m128i key = load(schedule.encrypt.keys[rounds - round]);
        store(schedule.decrypt.keys[round],
              round == 0 || round == rounds ? key : _mm_aesimc_si128(key));
    }
}

// last * x^(8 * Bytes) + last: added to (tweak + last) * x^(8 * Bytes), it makes a mask again.
template <int Bytes>
DEK_INLINE __m128i mask_constant(__m128i last) {
    const __m128i carry = _mm_bsrli_si128(last, 16 - Bytes);
    const __m128i reduced = _mm_clmulepi64_si128(carry, _mm_set_epi64x(0, 0x87), 0x00);
    return _mm_xor_si128(_mm_xor_si128(_mm_bslli_si128(last, Bytes), reduced), last);
}

void derive_constants(Direction& way, int rounds) {
    const __m128i last = load(way.keys[rounds]);
    store(way.last, last);
    store(way.whiten, _mm_xor_si128(last, load(way.keys[0])));
    store(way.x8, mask_constant<1>(last));
    store(way.x16, mask_constant<2>(last));
    store(way.x32, mask_constant<4>(last));
}

} // namespace

void expand(Schedule& schedule, const std::uint8_t* key, std::size_t bytes) {
    const int words = bytes == 64 ? 8 : 4;
    expand_key(schedule.encrypt.keys, key, words);
    expand_key(schedule.tweak, key + bytes / 2, words);
    invert_keys(schedule, words + 6);
    derive_constants(schedule.encrypt, words + 6);
    derive_constants(schedule.decrypt, words + 6);
    schedule.rounds = static_cast<std::uint32_t>(words + 6);
    clear_registers();
}

bool encrypt(const Schedule& schedule, const XtsUnits& units) {
    return run_any<true>(schedule, units);
}

bool decrypt(const Schedule& schedule, const XtsUnits& units) {
    return run_any<false>(schedule, units);
}

bool encrypt_blocks(const Schedule& schedule, std::uint8_t* blocks, std::size_t count,
                    const std::uint8_t* tweak) {
    return run_any_blocks<true>(schedule, blocks, count, tweak);
}

bool decrypt_blocks(const Schedule& schedule, std::uint8_t* blocks, std::size_t count,
                    const std::uint8_t* tweak) {
    return run_any_blocks<false>(schedule, blocks, count, tweak);
}

} // namespace dek::vaes
