// SPDX-License-Identifier: Apache-2.0
#include "evp_reference.h"

#include <stdexcept>

#include <catch2/catch.hpp>
#include <openssl/evp.h>

namespace {

void reference_unit(const Bytes& key, std::uint64_t number, const std::uint8_t* from,
                    std::uint8_t* to, std::size_t bytes) {
    std::uint8_t tweak[16] = {};
    for (int i = 0; i < 8; i++)
        tweak[i] = static_cast<std::uint8_t>(number >> (8 * i));
    int done = 0;
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    const bool ok =
        EVP_EncryptInit_ex(context, key.size() == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts(),
                           nullptr, key.data(), tweak) == 1 &&
        EVP_EncryptUpdate(context, to, &done, from, static_cast<int>(bytes)) == 1;
    EVP_CIPHER_CTX_free(context);
    if (!ok || done != static_cast<int>(bytes))
        throw std::runtime_error("libcrypto does not encrypt");
}

} // namespace

Bytes reference_encrypt(const Bytes& key, const Bytes& text, const Geometry& geometry) {
    Bytes cipher(text.size());
    for (std::size_t at = 0, unit = 0; at < text.size(); at += geometry.data_unit, unit++)
        reference_unit(key, geometry.tweak + unit * geometry.step, &text[at], &cipher[at],
                       geometry.data_unit);
    return cipher;
}

std::vector<dek::XtsEngine> engines_here() {
    std::vector<dek::XtsEngine> engines{dek::XtsEngine::openssl};
    if (dek::xts_engine_available(dek::XtsEngine::vaes512))
        engines.push_back(dek::XtsEngine::vaes512);
    else
        WARN("this CPU has no VAES-512: only the openssl engine is tested");
    return engines;
}
