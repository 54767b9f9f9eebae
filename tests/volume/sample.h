// SPDX-License-Identifier: Apache-2.0
// Headers, keys and image files for the tests of the volume header.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "volume/header.h"

namespace dek::test {

using Bytes = std::vector<std::uint8_t>;

// 64 bytes that differ by seed; no real key.
Secret sample_key(std::uint8_t seed = 1);

// The document's own example: 20480 blocks, header at 1024, two encrypted ranges.
volume::Header in_place_header(const Secret& key);
volume::Header leading_header(const Secret& key);
volume::Header detached_header(const Secret& key);

// A sealed copy whose parts can be changed one by one, and which is sealed again afterwards: by
// SHA-256 alone, as somebody without the key can do it.
struct Forgery {
    Bytes head; // 512 bytes
    Bytes map;
    std::string text;
    std::size_t size; // of the copy
    Bytes padding;    // after the text; shorter or longer than it should be where a test says so

    static Forgery of(const Bytes& copy);
    void edit(const std::function<void(nlohmann::json&)>& change);
    void put32(std::size_t at, std::uint32_t value);
    void put64(std::size_t at, std::uint64_t value);
    Bytes sealed() const;
};

std::uint32_t get32(const Bytes& bytes, std::size_t at);
void put_sha256(Bytes& copy); // over the copy as it is, by OpenSSL directly

// A directory of its own that goes with everything in it.
class Directory {
  public:
    Directory();
    ~Directory();
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    std::string path(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

// A file of zeros, open for reading and writing.
Fd make_image(const std::string& path, std::uint64_t lbas, int flags = 0);
Bytes bytes_of(int fd, std::uint64_t byte, std::size_t size);
void put_bytes(int fd, std::uint64_t byte, const Bytes& bytes);
Bytes file_bytes(const std::string& path);

// The name in the brackets that end a reason: the rule that was broken.
std::string rule_of(const std::string& reason);

} // namespace dek::test
