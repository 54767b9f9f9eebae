// SPDX-License-Identifier: Apache-2.0
// Digests, HMAC and key-check values, by OpenSSL.
#include "volume/seal.h"

#include <cstdlib>
#include <memory>
#include <string_view>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

namespace dek::volume {
namespace {

constexpr std::string_view mac_info = "dekstack header mac 1";
constexpr std::string_view check_info = "dekstack key check 1";

// OpenSSL's own algorithms fail for want of memory only; nothing sensible is left to do then.
void must(bool done) {
    if (!done)
        std::abort();
}

template <auto Free>
struct Freed {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};

OSSL_PARAM octets(const char* name, Bytes bytes) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<std::uint8_t*>(bytes.data()),
                                             bytes.size());
}

OSSL_PARAM sha256_name() {
    static char name[] = "SHA256";
    return OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name, 0);
}

void hkdf(const Secret& key, Bytes salt, std::string_view info, std::span<std::uint8_t> out) {
    const std::unique_ptr<EVP_KDF, Freed<EVP_KDF_free>> kdf(
        EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr));
    must(kdf != nullptr);
    const std::unique_ptr<EVP_KDF_CTX, Freed<EVP_KDF_CTX_free>> context(EVP_KDF_CTX_new(kdf.get()));
    must(context != nullptr);
    const Bytes text(reinterpret_cast<const std::uint8_t*>(info.data()), info.size());
    const OSSL_PARAM params[] = {sha256_name(), octets(OSSL_KDF_PARAM_KEY, key.bytes()),
                                 octets(OSSL_KDF_PARAM_SALT, salt),
                                 octets(OSSL_KDF_PARAM_INFO, text), OSSL_PARAM_construct_end()};
    must(EVP_KDF_derive(context.get(), out.data(), out.size(), params) == 1);
}

} // namespace

Digest sha256(Bytes first, Bytes second) {
    const std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
    Digest digest{};
    must(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1 &&
         EVP_DigestUpdate(context.get(), first.data(), first.size()) == 1 &&
         EVP_DigestUpdate(context.get(), second.data(), second.size()) == 1 &&
         EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1);
    return digest;
}

Digest copy_sha256(Bytes copy) {
    return sha256(copy.first(offsetof(CopyHead, sha256)), copy.subspan(offsetof(CopyHead, hmac)));
}

Digest copy_hmac(Bytes copy, const Uuid& uuid, const Secret& key) {
    Secret mac_key(digest_bytes);
    hkdf(key, uuid, mac_info, mac_key.bytes());
    const Bytes first = copy.first(offsetof(CopyHead, sha256));
    const Bytes second = copy.subspan(sizeof(CopyHead));

    const std::unique_ptr<EVP_MAC, Freed<EVP_MAC_free>> mac(
        EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_HMAC, nullptr));
    must(mac != nullptr);
    const std::unique_ptr<EVP_MAC_CTX, Freed<EVP_MAC_CTX_free>> context(EVP_MAC_CTX_new(mac.get()));
    const OSSL_PARAM params[] = {sha256_name(), OSSL_PARAM_construct_end()};
    Digest digest{};
    std::size_t size = 0;
    must(context != nullptr &&
         EVP_MAC_init(context.get(), mac_key.bytes().data(), mac_key.size(), params) == 1 &&
         EVP_MAC_update(context.get(), first.data(), first.size()) == 1 &&
         EVP_MAC_update(context.get(), second.data(), second.size()) == 1 &&
         EVP_MAC_final(context.get(), digest.data(), &size, digest.size()) == 1 &&
         size == digest.size());
    return digest;
}

bool equal(Bytes a, Bytes b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::array<std::uint8_t, 16> key_check_value(const Secret& key,
                                             std::span<const std::uint8_t, 16> salt) {
    std::array<std::uint8_t, 16> value{};
    hkdf(key, salt, check_info, value);
    return value;
}

HeaderKey make_header_key(const std::string& id, const std::string& provider, const Secret& key) {
    HeaderKey made;
    made.id = id;
    made.provider = provider;
    made.bits = static_cast<std::uint32_t>(8 * key.size());
    must(RAND_bytes(made.check_salt.data(), static_cast<int>(made.check_salt.size())) == 1);
    made.check_value = key_check_value(key, made.check_salt);
    return made;
}

bool key_matches(const HeaderKey& expected, const Secret& key) {
    return key.size() * 8 == expected.bits &&
           equal(key_check_value(key, expected.check_salt), expected.check_value);
}

} // namespace dek::volume
