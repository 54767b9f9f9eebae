// SPDX-License-Identifier: Apache-2.0
#include "key.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include <linux/keyctl.h>
#include <openssl/evp.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr char name[] = "dek:vm"; // in this process's keyring, where the shim looks for it

using Kek = std::array<std::uint8_t, 32>;

long add(const char* type, const char* key, const void* payload, std::size_t size) {
    const long id = ::syscall(SYS_add_key, type, key, payload, size, KEY_SPEC_PROCESS_KEYRING);
    if (id < 0)
        throw std::runtime_error(std::string("add_key: ") + std::strerror(errno));
    return id;
}

void add_logon(const std::uint8_t* payload, std::size_t size) {
    if (!std::getenv("NO_KEK"))
        add("logon", name, payload, size);
}

// What the kernel drew for an `encrypted` key: it shows IV, ciphertext and HMAC, under a key made
// of the master key's (Linux, security/keys/encrypted-keys: AES-256-CBC; SHA-256 of "ENC_KEY", 0
// and the master key, as long as if it were "AUTH_KEY").
Kek add_encrypted() {
    Kek master{7, 8, 9}, derived{}, kek{};
    const std::string order = "new user:vm-master 32";
    add("user", "vm-master", master.data(), master.size());
    const long id = add("encrypted", name, order.data(), order.size());
    std::array<char, 512> shown{};
    if (::syscall(SYS_keyctl, KEYCTL_READ, id, shown.data(), shown.size() - 1) < 0)
        throw std::runtime_error(std::string("keyctl: ") + std::strerror(errno));
    const std::string text = std::string(shown.data());
    const std::string digits = text.substr(text.rfind(' ') + 1);
    std::array<std::uint8_t, 16 + 1 + 32> sealed{}; // a zero after the IV
    for (std::size_t i = 0; i < sealed.size(); i++)
        sealed[i] = hex_byte(digits, 2 * i);
    std::array<std::uint8_t, 9 + 32> source{'E', 'N', 'C', '_', 'K', 'E', 'Y'};
    std::copy(master.begin(), master.end(), source.begin() + 8);
    EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
    int n = 0;
    if (EVP_Digest(source.data(), source.size(), derived.data(), nullptr, EVP_sha256(), nullptr) !=
            1 ||
        EVP_DecryptInit_ex(c, EVP_aes_256_cbc(), nullptr, derived.data(), sealed.data()) != 1 ||
        EVP_CIPHER_CTX_set_padding(c, 0) != 1 ||
        EVP_DecryptUpdate(c, kek.data(), &n, sealed.data() + 17, 32) != 1 || n != 32)
        throw std::runtime_error("OpenSSL fails");
    EVP_CIPHER_CTX_free(c);
    return kek;
}

} // namespace

std::uint8_t hex_byte(const std::string& text, std::size_t at) {
    return static_cast<std::uint8_t>(std::stoul(text.substr(at, 2), nullptr, 16));
}

Key parse_key(const std::string& text) {
    Key key;
    if (text.starts_with("logon:") || text.starts_with("wrapped:") ||
        text.starts_with("encrypted:")) {
        key = parse_key(text.substr(text.find(':') + 1));
        key.blob = text[0] == 'l' ? DEK_BLOB_KEYRING : DEK_BLOB_WRAPPED;
        key.kek_encrypted = text[0] == 'e';
        return key;
    }
    if (text.size() != 2 * key.bytes.size())
        throw std::runtime_error("a key has 128 digits");
    for (std::size_t i = 0; i < key.bytes.size(); i++)
        key.bytes[i] = hex_byte(text, 2 * i);
    return key;
}

Blob::Blob(const Key& key, std::uint64_t id) : data_(key.bytes) {
    view_.present = true;
    view_.type = key.blob;
    view_.key_length = DEK_KEY_DATA_SIZE;
    view_.algorithm = DEK_ALG_AES;
    view_.mode = DEK_MODE_XTS;
    view_.key_data = data_.data();
    if (key.blob == DEK_BLOB_WRAPPED)
        wrap(id, key.kek_encrypted);
    if (key.blob == DEK_BLOB_KEYRING) {
        add_logon(data_.data(), data_.size());
        data_.fill(0);
        std::memcpy(data_.data(), name, sizeof(name) - 1);
        view_.key_length = sizeof(name) - 1;
    }
}

void Blob::wrap(std::uint64_t id, bool kek_encrypted) {
    const Kek kek = kek_encrypted ? add_encrypted() : Kek{1, 2, 3};
    const auto plain = data_;
    std::uint8_t aad[DEK_WRAP_AAD_MAX];
    const size_t bound = dek_wrap_aad(aad, "vm", 2, DEK_ALG_AES, DEK_MODE_XTS, id);
    EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
    int n = 0;
    if (!kek_encrypted)
        add_logon(kek.data(), kek.size());
    if (EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), nullptr, kek.data(), nonce_.data()) != 1 ||
        EVP_EncryptUpdate(c, nullptr, &n, aad, static_cast<int>(bound)) != 1 ||
        EVP_EncryptUpdate(c, data_.data(), &n, plain.data(), static_cast<int>(plain.size())) != 1 ||
        EVP_EncryptFinal_ex(c, data_.data() + n, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, DEK_WRAP_TAG_SIZE, tag_.data()) != 1)
        throw std::runtime_error("OpenSSL fails");
    EVP_CIPHER_CTX_free(c);
    data_[5] ^= std::getenv("FLIP") ? 1 : 0;
    view_.nonce = nonce_.data();
    view_.tag = tag_.data();
    view_.kek_name = name;
    view_.kek_name_length = sizeof(name) - 1;
}
