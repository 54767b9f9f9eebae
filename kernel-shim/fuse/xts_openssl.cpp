// SPDX-License-Identifier: Apache-2.0
// The engine for every other CPU: libcrypto's EVP, its contexts made and keyed in advance so that
// nothing is allocated, and nothing can run out, while I/O is under way.
#include "xts_engine.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include <openssl/evp.h>

namespace dek {
namespace {

struct FreeContext {
    void operator()(EVP_CIPHER_CTX* context) const {
        EVP_CIPHER_CTX_free(context);
    } // wipes the key
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

Context make_context(std::span<const std::uint8_t> key, int encrypt) {
    const EVP_CIPHER* cipher = key.size() == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
    Context context(EVP_CIPHER_CTX_new());
    if (context == nullptr ||
        EVP_CipherInit_ex(context.get(), cipher, nullptr, key.data(), nullptr, encrypt) != 1)
        return nullptr;
    return context;
}

// A context serves one thread at a time, and one direction.
struct Lane {
    std::mutex mutex;
    Context encrypt, decrypt;
};

// Threads start at different lanes, so that they rarely meet.
std::size_t first_lane() {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t number = threads++;
    return number;
}

bool crypt_unit(EVP_CIPHER_CTX* context, std::uint8_t* to, const std::uint8_t* from,
                std::size_t bytes, const std::uint8_t* tweak) {
    int done = 0;
    return EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, tweak, -1) == 1 &&
           EVP_CipherUpdate(context, to, &done, from, static_cast<int>(bytes)) == 1 &&
           done == static_cast<int>(bytes);
}

bool crypt_units(EVP_CIPHER_CTX* context, const XtsUnits& units) {
    std::uint8_t tweak[16] = {};
    for (std::size_t i = 0; i < units.count; i++) {
        const std::uint64_t number = units.first + i * units.step;
        for (unsigned byte = 0; byte < 8; byte++)
            tweak[byte] = static_cast<std::uint8_t>(number >> (8 * byte));
        const std::size_t at = i * units.bytes_per_unit;
        if (!crypt_unit(context, units.to + at, units.from + at, units.bytes_per_unit, tweak))
            return false;
    }
    return true;
}

class OpensslXts final : public XtsCipher {
  public:
    explicit OpensslXts(std::size_t lanes) : lanes_(lanes) {}

    bool set_key(std::span<const std::uint8_t> key) {
        return std::all_of(lanes_.begin(), lanes_.end(), [key](Lane& lane) {
            lane.encrypt = make_context(key, 1);
            lane.decrypt = make_context(key, 0);
            return lane.encrypt != nullptr && lane.decrypt != nullptr;
        });
    }
    bool encrypt(const XtsUnits& units) const noexcept override {
        const Held held = take();
        return crypt_units(held.lane.encrypt.get(), units);
    }
    bool decrypt(const XtsUnits& units) const noexcept override {
        const Held held = take();
        return crypt_units(held.lane.decrypt.get(), units);
    }
    bool encrypt_blocks(std::span<std::uint8_t> blocks,
                        const std::uint8_t* tweak) const noexcept override {
        const Held held = take();
        return crypt_unit(held.lane.encrypt.get(), blocks.data(), blocks.data(), blocks.size(),
                          tweak);
    }
    bool decrypt_blocks(std::span<std::uint8_t> blocks,
                        const std::uint8_t* tweak) const noexcept override {
        const Held held = take();
        return crypt_unit(held.lane.decrypt.get(), blocks.data(), blocks.data(), blocks.size(),
                          tweak);
    }

  private:
    struct Held {
        Lane& lane;
        std::unique_lock<std::mutex> lock;
    };

    // A free lane, or this thread's own when it becomes free.
    Held take() const {
        const std::size_t first = first_lane();
        for (std::size_t i = 0; i < lanes_.size(); i++) {
            Lane& lane = lanes_[(first + i) % lanes_.size()];
            std::unique_lock lock(lane.mutex, std::try_to_lock);
            if (lock.owns_lock())
                return {lane, std::move(lock)};
        }
        Lane& lane = lanes_[first % lanes_.size()];
        return {lane, std::unique_lock(lane.mutex)};
    }

    mutable std::vector<Lane> lanes_;
};

} // namespace

std::unique_ptr<const XtsCipher> make_openssl_xts(std::span<const std::uint8_t> key) {
    const std::size_t lanes = std::clamp(std::thread::hardware_concurrency(), 2U, 32U);
    auto cipher = std::make_unique<OpensslXts>(lanes);
    if (!cipher->set_key(key))
        return nullptr;
    return cipher;
}

} // namespace dek
