// SPDX-License-Identifier: Apache-2.0
// OpenSSL's and libargon2's primitives with secrets in and out of locked memory.
#include "keys/wrapping.h"

#include <memory>

#include <argon2.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

namespace dek::keys {
namespace {

struct CipherFree {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, CipherFree>;

tl::unexpected<Error> crypto_failure(const char* what) {
    return fail(Errc::internal, std::string(what) + " failed in the cryptographic library");
}

Result<Cipher> start_gcm(const Secret& key, ByteView nonce, ByteView associated, bool encrypt) {
    Cipher context(EVP_CIPHER_CTX_new());
    int length = 0;
    if (key.size() != wrap_key_size || nonce.size() != nonce_size || !context ||
        EVP_CipherInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.bytes().data(),
                          nonce.data(), encrypt ? 1 : 0) != 1 ||
        EVP_CipherUpdate(context.get(), nullptr, &length, associated.data(),
                         static_cast<int>(associated.size())) != 1)
        return crypto_failure("AES-256-GCM");
    return context;
}

bool within_bounds(const Argon2Cost& cost) {
    return cost.lanes >= 1 && cost.lanes <= 16 && cost.passes >= 1 && cost.passes <= 64 &&
           cost.memory_kib >= 8 * cost.lanes && cost.memory_kib <= 1024 * 1024;
}

} // namespace

ByteView bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Bytes random_bytes(std::size_t size) {
    const Secret drawn = Secret::random(size);
    return {drawn.bytes().begin(), drawn.bytes().end()};
}

AssociatedData& AssociatedData::bytes(ByteView value) {
    for (int shift = 0; shift < 32; shift += 8)
        encoded_.push_back(static_cast<std::uint8_t>(value.size() >> shift));
    encoded_.insert(encoded_.end(), value.begin(), value.end());
    return *this;
}

AssociatedData& AssociatedData::number(std::int64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
        encoded_.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> shift));
    return *this;
}

Result<Sealed> seal(const Secret& key, ByteView plain, ByteView associated) {
    Sealed sealed{random_bytes(nonce_size), Bytes(plain.size() + tag_size)};
    auto context = start_gcm(key, sealed.nonce, associated, true);
    if (!context)
        return tl::unexpected(context.error());
    int length = 0;
    const bool encrypted =
        (plain.empty() || EVP_CipherUpdate(context->get(), sealed.text.data(), &length,
                                           plain.data(), static_cast<int>(plain.size())) == 1) &&
        EVP_CipherFinal_ex(context->get(), sealed.text.data() + length, &length) == 1 &&
        EVP_CIPHER_CTX_ctrl(context->get(), EVP_CTRL_AEAD_GET_TAG, tag_size,
                            sealed.text.data() + plain.size()) == 1;
    if (!encrypted)
        return crypto_failure("AES-256-GCM");
    return sealed;
}

Result<Secret> unseal(const Secret& key, const Sealed& sealed, ByteView associated) {
    if (sealed.nonce.size() != nonce_size || sealed.text.size() < tag_size)
        return fail(Errc::wrong_key, "a sealed value has an impossible size");
    auto context = start_gcm(key, sealed.nonce, associated, false);
    if (!context)
        return tl::unexpected(context.error());
    const std::size_t size = sealed.text.size() - tag_size;
    Bytes tag(sealed.text.begin() + static_cast<std::ptrdiff_t>(size), sealed.text.end());
    Secret plain(size);
    int length = 0;
    std::uint8_t none = 0;
    const bool opened =
        (size == 0 || EVP_CipherUpdate(context->get(), plain.bytes().data(), &length,
                                       sealed.text.data(), static_cast<int>(size)) == 1) &&
        EVP_CIPHER_CTX_ctrl(context->get(), EVP_CTRL_AEAD_SET_TAG, tag_size, tag.data()) == 1 &&
        EVP_CipherFinal_ex(context->get(), &none, &length) == 1;
    if (!opened)
        return fail(Errc::wrong_key, "a sealed value does not authenticate");
    return plain;
}

Result<Secret> hkdf_sha256(const Secret& input, ByteView salt, std::string_view info) {
    struct Free {
        void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
        void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
    };
    const std::unique_ptr<EVP_KDF, Free> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    const std::unique_ptr<EVP_KDF_CTX, Free> context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
    const auto octets = [](const char* name, ByteView bytes) {
        return OSSL_PARAM_construct_octet_string(name, const_cast<std::uint8_t*>(bytes.data()),
                                                 bytes.size());
    };
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_KEY, input.bytes()), octets(OSSL_KDF_PARAM_SALT, salt),
        octets(OSSL_KDF_PARAM_INFO, bytes_of(info)), OSSL_PARAM_construct_end()};
    Secret derived(wrap_key_size);
    if (!context ||
        EVP_KDF_derive(context.get(), derived.bytes().data(), derived.size(), parameters) != 1)
        return crypto_failure("HKDF");
    return derived;
}

Result<std::array<std::uint8_t, 32>> hmac_sha256(const Secret& key, ByteView message) {
    std::array<std::uint8_t, 32> mac{};
    unsigned int size = mac.size();
    if (HMAC(EVP_sha256(), key.bytes().data(), static_cast<int>(key.size()), message.data(),
             message.size(), mac.data(), &size) == nullptr)
        return crypto_failure("HMAC");
    return mac;
}

Result<Secret> argon2id(const Secret& passphrase, ByteView salt, const Argon2Cost& cost) {
    if (!within_bounds(cost))
        return fail(Errc::corrupt, "the recorded cost of a passphrase is out of bounds");
    Secret derived(wrap_key_size);
    const int result = ::argon2id_hash_raw(
        cost.passes, cost.memory_kib, cost.lanes, passphrase.bytes().data(), passphrase.size(),
        salt.data(), salt.size(), derived.bytes().data(), derived.size());
    if (result == ARGON2_MEMORY_ALLOCATION_ERROR)
        return fail(Errc::internal, "there is no memory for deriving from the passphrase");
    if (result != ARGON2_OK)
        return crypto_failure("Argon2id");
    return derived;
}

} // namespace dek::keys
