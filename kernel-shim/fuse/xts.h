// SPDX-License-Identifier: Apache-2.0
// AES-XTS over whole data units, as volumes use it: a 64-bit little-endian tweak number per unit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace dek {

class XtsCipher;

enum class XtsEngine {
    automatic, // vaes512 where the CPU has it, openssl otherwise
    vaes512,   // VAES and AVX-512
    openssl,   // libcrypto's EVP
};

// "vaes512", "openssl"; "automatic" for what is none.
const char* xts_engine_name(XtsEngine engine);
// Whether this CPU and its operating system can run it.
bool xts_engine_available(XtsEngine engine);
// Known answers, AES-128 and AES-256, both directions. To be passed before an endpoint says that it
// can encrypt. False for an engine that is not available; `automatic` tests the one it stands for.
bool xts_self_test(XtsEngine engine);

// One XTS key, expanded. Move-only; a moved-from key refuses everything. Const members may be
// called from several threads at once. The vaes512 schedule lies in locked memory (a page per key)
// that a child process gets wiped, where every call then fails; openssl keeps its own on its heap,
// and wipes it too. Round keys never reach the stack; registers and tweaks are cleared after each
// call.
class XtsKey {
  public:
    // `key`: 32 (AES-128) or 64 (AES-256) bytes, data key first; the caller keeps and wipes it.
    // invalid_argument: another length, or equal halves. unsupported: the engine cannot run here.
    // unavailable: no memory, or none that can be locked.
    static Result<XtsKey> make(std::span<const std::uint8_t> key,
                               XtsEngine engine = XtsEngine::automatic);
    XtsKey(XtsKey&&) noexcept;
    XtsKey& operator=(XtsKey&&) noexcept;
    ~XtsKey();

    // The one in use, never `automatic`.
    XtsEngine engine() const noexcept { return engine_; }

    // `bytes`: a multiple of data_unit, which is 512, 1024, 2048 or 4096 bytes. Unit i has the
    // tweak number tweak + i * step (modulo 2^64); step is 1 (rule `unit`) or data_unit / 512 (rule
    // `lba512`). dst == src, or no overlap; no alignment needed. False: refused or failed; fail the
    // I/O, and use nothing of dst, which may hold anything.
    [[nodiscard]] bool encrypt(std::uint8_t* dst, const std::uint8_t* src, std::size_t bytes,
                               std::uint32_t data_unit, std::uint64_t tweak,
                               std::uint32_t step) const noexcept;
    [[nodiscard]] bool decrypt(std::uint8_t* dst, const std::uint8_t* src, std::size_t bytes,
                               std::uint32_t data_unit, std::uint64_t tweak,
                               std::uint32_t step) const noexcept;

    // One data unit of 16..512 bytes (a multiple of 16) in place under a whole 16-byte tweak: what
    // standard test vectors use and volumes do not. The engine's code is the same.
    [[nodiscard]] bool encrypt_blocks(std::span<std::uint8_t> blocks,
                                      std::span<const std::uint8_t, 16> tweak) const noexcept;
    [[nodiscard]] bool decrypt_blocks(std::span<std::uint8_t> blocks,
                                      std::span<const std::uint8_t, 16> tweak) const noexcept;

  private:
    XtsKey(std::unique_ptr<const XtsCipher> cipher, XtsEngine engine) noexcept;

    std::unique_ptr<const XtsCipher> cipher_;
    XtsEngine engine_;
};

} // namespace dek
