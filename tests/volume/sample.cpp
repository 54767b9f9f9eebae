// SPDX-License-Identifier: Apache-2.0
// What the tests of the volume header start from.
#include "sample.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

namespace dek::test {

using volume::Header;
using volume::Place;

Secret sample_key(std::uint8_t seed) {
    Secret key(64);
    for (std::size_t i = 0; i < key.size(); ++i)
        key.bytes()[i] = static_cast<std::uint8_t>(seed * 37 + i * 11);
    return key;
}

Header in_place_header(const Secret& key) {
    Header header;
    header.sequence = 1;
    header.uuid = volume::random_uuid();
    header.name = "example";
    header.place = Place::in_place;
    header.header_lba = 1024;
    header.device_lbas = header.size = 20480;
    header.keys = {volume::make_header_key("key-one", "keystore", key),
                   volume::make_header_key("key-two", "kmip", sample_key(2))};
    header.ranges = {{{1536, 8704}, 0}, {{11264, 9216}, 1}};
    return header;
}

Header leading_header(const Secret& key) {
    Header header = in_place_header(key);
    header.place = Place::leading;
    header.header_lba = 0;
    header.offset = volume::default_data_lba;
    header.size = header.device_lbas - header.offset;
    header.ranges = {{{0, header.size}, 0}};
    return header;
}

Header detached_header(const Secret& key) {
    Header header = in_place_header(key);
    header.place = Place::detached;
    header.header_lba = 0;
    header.ranges = {{{0, header.size}, 0}};
    return header;
}

std::uint32_t get32(const Bytes& bytes, std::size_t at) {
    return static_cast<std::uint32_t>(bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16) |
           static_cast<std::uint32_t>(bytes[at + 3]) << 24;
}

void put_sha256(Bytes& copy) {
    Bytes covered(copy.begin(), copy.begin() + 448);
    covered.insert(covered.end(), copy.begin() + 480, copy.end());
    EVP_Digest(covered.data(), covered.size(), copy.data() + 448, nullptr, EVP_sha256(), nullptr);
}

Forgery Forgery::of(const Bytes& copy) {
    Forgery forgery;
    forgery.head.assign(copy.begin(), copy.begin() + 512);
    const std::size_t text_at = 512 + get32(copy, 32) * 20;
    const std::size_t text_end = text_at + get32(copy, 36);
    forgery.map.assign(copy.begin() + 512, copy.begin() + static_cast<std::ptrdiff_t>(text_at));
    forgery.text.assign(copy.begin() + static_cast<std::ptrdiff_t>(text_at),
                        copy.begin() + static_cast<std::ptrdiff_t>(text_end));
    forgery.size = copy.size();
    return forgery;
}

void Forgery::edit(const std::function<void(nlohmann::json&)>& change) {
    auto json = nlohmann::json::parse(text);
    change(json);
    text = json.dump();
    put32(36, static_cast<std::uint32_t>(text.size()));
}

void Forgery::put32(std::size_t at, std::uint32_t value) {
    for (std::size_t i = 0; i < 4; ++i)
        head.at(at + i) = static_cast<std::uint8_t>(value >> (8 * i));
}

void Forgery::put64(std::size_t at, std::uint64_t value) {
    put32(at, static_cast<std::uint32_t>(value));
    put32(at + 4, static_cast<std::uint32_t>(value >> 32));
}

Bytes Forgery::sealed() const {
    Bytes copy = head;
    copy.insert(copy.end(), map.begin(), map.end());
    copy.insert(copy.end(), text.begin(), text.end());
    copy.insert(copy.end(), padding.begin(), padding.end());
    copy.resize(size);
    put_sha256(copy);
    return copy;
}

Directory::Directory() {
    std::string name = (std::filesystem::temp_directory_path() / "dek-volume-XXXXXX").string();
    if (!::mkdtemp(name.data()))
        throw std::runtime_error("no directory for the test");
    path_ = name;
}

Directory::~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

Fd make_image(const std::string& path, std::uint64_t lbas, int flags) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(lbas * 512)) != 0)
        throw std::runtime_error("no image for the test: " + std::string(std::strerror(errno)));
    return fd;
}

Bytes bytes_of(int fd, std::uint64_t byte, std::size_t size) {
    Bytes bytes(size);
    if (::pread(fd, bytes.data(), size, static_cast<off_t>(byte)) < 0)
        throw std::runtime_error("cannot read back");
    return bytes;
}

void put_bytes(int fd, std::uint64_t byte, const Bytes& bytes) {
    if (::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(byte)) !=
        static_cast<ssize_t>(bytes.size()))
        throw std::runtime_error("cannot write");
}

Bytes file_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

std::string rule_of(const std::string& reason) {
    const auto open = reason.rfind('(');
    if (open == std::string::npos || reason.back() != ')')
        return "";
    return reason.substr(open + 1, reason.size() - open - 2);
}

} // namespace dek::test
