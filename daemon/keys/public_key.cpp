// SPDX-License-Identifier: Apache-2.0
// RSA-OAEP and ephemeral ECDH with OpenSSL.
#include "keys/public_key.h"

#include <memory>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

namespace dek::keys {
namespace {

struct Free {
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using PublicKey = std::unique_ptr<EVP_PKEY, Free>;
using Context = std::unique_ptr<EVP_PKEY_CTX, Free>;

constexpr std::size_t longest_pem = 64 * 1024;
constexpr int least_rsa_bits = 2048;

tl::unexpected<Error> not_fit() {
    return fail(Errc::invalid_argument, "the public key must be a PEM \"PUBLIC KEY\": RSA of at "
                                        "least 2048 bits, or EC on P-256, P-384 or P-521");
}

tl::unexpected<Error> failed() {
    return fail(Errc::internal,
                "wrapping under the public key failed in the cryptographic library");
}

PublicKey read_pem(const std::string& pem) {
    if (pem.size() > longest_pem)
        return nullptr;
    const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    return PublicKey(bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr);
}

bool on_known_curve(EVP_PKEY* key) {
    char group[64] = {};
    std::size_t length = 0;
    if (EVP_PKEY_get_group_name(key, group, sizeof group, &length) != 1)
        return false;
    const std::string_view name(group, length);
    return name == "prime256v1" || name == "secp384r1" || name == "secp521r1";
}

Result<Conveyed> under_rsa(EVP_PKEY* key) {
    Conveyed conveyed{Secret::random(wrap_key_size), "rsa-oaep-sha256", {}};
    const Context context(EVP_PKEY_CTX_new(key, nullptr));
    conveyed.message.resize(static_cast<std::size_t>(EVP_PKEY_get_size(key)));
    std::size_t size = conveyed.message.size();
    if (!context || EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), EVP_sha256()) != 1 ||
        EVP_PKEY_encrypt(context.get(), conveyed.message.data(), &size, conveyed.key.bytes().data(),
                         conveyed.key.size()) != 1)
        return failed();
    conveyed.message.resize(size);
    return conveyed;
}

PublicKey ephemeral_like(EVP_PKEY* peer) {
    const Context generator(EVP_PKEY_CTX_new(peer, nullptr));
    EVP_PKEY* made = nullptr;
    if (generator && EVP_PKEY_keygen_init(generator.get()) == 1)
        EVP_PKEY_keygen(generator.get(), &made);
    return PublicKey(made);
}

Result<Secret> shared_secret(EVP_PKEY* ours, EVP_PKEY* peer) {
    const Context context(EVP_PKEY_CTX_new(ours, nullptr));
    std::size_t size = 0;
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer(context.get(), peer) != 1 ||
        EVP_PKEY_derive(context.get(), nullptr, &size) != 1)
        return failed();
    Secret shared(size);
    if (EVP_PKEY_derive(context.get(), shared.bytes().data(), &size) != 1)
        return failed();
    shared.truncate(size);
    return shared;
}

Result<Conveyed> under_ec(EVP_PKEY* peer) {
    const PublicKey ours = ephemeral_like(peer);
    unsigned char* encoded = nullptr;
    const int length = ours ? i2d_PUBKEY(ours.get(), &encoded) : 0;
    if (length <= 0)
        return failed();
    Conveyed conveyed{Secret(), "ecdh-hkdf-sha256", Bytes(encoded, encoded + length)};
    OPENSSL_free(encoded);
    auto shared = shared_secret(ours.get(), peer);
    if (!shared)
        return tl::unexpected(shared.error());
    auto key = hkdf_sha256(*shared, conveyed.message, "dekstack wrapped key");
    if (!key)
        return tl::unexpected(key.error());
    conveyed.key = std::move(*key);
    return conveyed;
}

} // namespace

Result<Conveyed> convey_key(const std::string& pem) {
    const PublicKey key = read_pem(pem);
    if (!key)
        return not_fit();
    if (EVP_PKEY_is_a(key.get(), "RSA") == 1 && EVP_PKEY_get_bits(key.get()) >= least_rsa_bits)
        return under_rsa(key.get());
    if (EVP_PKEY_is_a(key.get(), "EC") == 1 && on_known_curve(key.get()))
        return under_ec(key.get());
    return not_fit();
}

} // namespace dek::keys
