// SPDX-License-Identifier: Apache-2.0
#include "key.h"

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

void add_logon(const std::uint8_t* payload, std::size_t size) {
    if (std::getenv("NO_KEK"))
        return;
    if (::syscall(SYS_add_key, "logon", name, payload, size, KEY_SPEC_PROCESS_KEYRING) < 0)
        throw std::runtime_error(std::string("add_key: ") + std::strerror(errno));
}

} // namespace

std::uint8_t hex_byte(const std::string& text, std::size_t at) {
    return static_cast<std::uint8_t>(std::stoul(text.substr(at, 2), nullptr, 16));
}

Key parse_key(const std::string& text) {
    Key key;
    if (text.starts_with("logon:") || text.starts_with("wrapped:")) {
        key = parse_key(text.substr(text.find(':') + 1));
        key.blob = text[0] == 'l' ? DEK_BLOB_KEYRING : DEK_BLOB_WRAPPED;
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
        wrap(id);
    if (key.blob == DEK_BLOB_KEYRING) {
        add_logon(data_.data(), data_.size());
        data_.fill(0);
        std::memcpy(data_.data(), name, sizeof(name) - 1);
        view_.key_length = sizeof(name) - 1;
    }
}

void Blob::wrap(std::uint64_t id) {
    const std::array<std::uint8_t, 32> kek{1, 2, 3};
    const auto plain = data_;
    std::uint8_t aad[DEK_WRAP_AAD_MAX];
    const size_t bound = dek_wrap_aad(aad, "vm", 2, DEK_ALG_AES, DEK_MODE_XTS, id);
    EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
    int n = 0;
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
