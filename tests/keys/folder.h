// SPDX-License-Identifier: Apache-2.0
// A folder of a test's own, in memory where there is /dev/shm, and what the keys tests put into it.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "keys/keystore.h"

// ASan makes mlock do nothing, keeps freed memory, and maps more than can be searched.
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

namespace dek::test {

class Folder {
  public:
    Folder() {
        const bool memory = std::filesystem::is_directory("/dev/shm");
        std::string name = std::string(memory ? "/dev/shm" : "/tmp") + "/dek-keys-XXXXXX";
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no folder for the test");
        path_ = name;
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return path_ + '/' + name; }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

inline std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

inline Secret secret_of(const std::string& text) {
    return Secret::copy_of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

// Material that differs in every byte's neighbourhood, so that no part repeats elsewhere by chance.
inline Secret material_of(std::uint32_t seed, std::size_t size = 64) {
    Secret material(size);
    for (auto& byte : material.bytes()) {
        seed = seed * 1664525 + 1013904223;
        byte = static_cast<std::uint8_t>(seed >> 24);
    }
    return material;
}

inline const keys::Argon2Cost cheap{64, 1, 1};

// Prvalue: a Deadline cannot be copied or moved.
inline keys::Deadline soon() {
    return keys::Deadline(std::chrono::seconds(30));
}

template <class T>
Errc code_of(const Result<T>& result) {
    REQUIRE_FALSE(result.has_value());
    REQUIRE_FALSE(result.error().reason.empty());
    return result.error().code;
}

// Unwraps, and shows the reason where there is none to unwrap.
template <class T>
T must(Result<T> result) {
    INFO((result ? std::string() : result.error().reason));
    REQUIRE(result.has_value());
    if constexpr (!std::is_void_v<T>)
        return std::move(*result);
}

inline std::unique_ptr<keys::Keystore> new_keystore(const Folder& folder,
                                                    const std::string& name = "ks") {
    return must(keys::Keystore::init(folder / name, keys::FileUnsealer{folder / (name + ".key")}));
}

inline std::unique_ptr<keys::Keystore> open_keystore(const Folder& folder,
                                                     const std::string& name = "ks") {
    auto keystore = must(keys::Keystore::open(folder / name));
    must(keystore->unseal_automatically());
    return keystore;
}

} // namespace dek::test
