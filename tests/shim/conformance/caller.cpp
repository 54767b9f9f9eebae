// SPDX-License-Identifier: Apache-2.0
#include "caller.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace conformance {
namespace {

[[noreturn]] void give_up(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

// Direct I/O wants aligned memory.
struct Aligned {
    explicit Aligned(std::size_t size) : size_(size) {
        if (::posix_memalign(&memory, 4096, size ? size : 1) != 0)
            throw std::bad_alloc();
    }
    ~Aligned() { std::free(memory); }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    void* memory = nullptr;
    std::size_t size_;
};

std::uint64_t logical_lba(const dek_geometry& g, std::uint64_t lba) {
    const std::uint64_t p = lba - g.device_origin;
    if (!g.chunk)
        return g.logical_origin + p;
    return g.logical_origin + (p / g.chunk * g.stripes + g.leg) * g.chunk + p % g.chunk;
}

} // namespace

Caller::Caller() : fd_(::open(stage().control().c_str(), O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0)
        give_up(stage().control());
}

Caller::~Caller() {
    ::close(fd_);
}

void Caller::reopen() {
    ::close(fd_);
    fd_ = ::open(stage().control().c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0)
        give_up(stage().control());
}

int Caller::raw(unsigned long number, void* argument) {
    return ::ioctl(fd_, number, argument) < 0 ? errno : 0;
}

Volume::Volume(const Spec& spec) : spec_(spec), place_(stage().make(spec)) {
    node_ =
        ::open(place_.node.c_str(), (spec.read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (node_ < 0)
        give_up(place_.node);
}

Volume::~Volume() {
    ::close(node_);
    stage().remove(place_);
}

std::uint64_t Volume::endpoint_id() {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE], random[768];
    const Bytes noise = pattern(sizeof(random), 99);
    std::copy(noise.begin(), noise.end(), random);
    dek_block_begin(block, DEK_OP_HANDSHAKE, 0, 7);
    dek_block_handshake(block, DEK_CLASS_EHBA, random);
    dek_block_seal(block);
    if (command(block) != DEK_OK)
        throw std::runtime_error("the handshake fails");
    return dek_get_le64(block + offsetof(dek_wire_header, endpoint_id));
}

dek_status Volume::command(std::uint8_t block[DEK_BLOCK_SIZE]) {
    auto c = argument<dek_ioc_command>();
    std::memcpy(c.block, block, DEK_BLOCK_SIZE);
    if (const int error = caller_.call(DEK_IOC_COMMAND, c)) {
        errno = error;
        give_up("DEK_IOC_COMMAND");
    }
    std::memcpy(block, c.block, DEK_BLOCK_SIZE);
    return static_cast<dek_status>(dek_get_le32(block + offsetof(dek_wire_header, status)));
}

dek_status Volume::query(const std::vector<dek_range>& ranges) {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE];
    dek_block_begin(block, DEK_OP_QUERY, endpoint_id(), 7);
    dek_block_query(block, ranges.data(), static_cast<__u32>(ranges.size()));
    dek_block_seal(block);
    return command(block);
}

dek_status Volume::associate(Association& a, std::uint32_t opcode) {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE], key[DEK_KEY_DATA_SIZE]{};
    std::copy(a.key.begin(), a.key.end(), key);
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_UNWRAPPED;
    blob.key_length = static_cast<__u8>(a.key.size());
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = key;
    dek_block_begin(block, opcode, endpoint_id(), 7);
    if (dek_block_associate(block, a.handle, &blob, a.key_id.data(),
                            static_cast<__u32>(a.key_id.size()), &a.geometry, a.ranges.data(),
                            static_cast<__u32>(a.ranges.size())) != DEK_OK)
        throw std::runtime_error("the test's own block does not fit");
    dek_block_seal(block);
    const dek_status status = command(block);
    if (status == DEK_OK)
        a.handle = dek_get_le64(block + offsetof(dek_wire_associate, association));
    return status;
}

dek_status Volume::disassociate(std::uint64_t handle) {
    alignas(8) std::uint8_t block[DEK_BLOCK_SIZE];
    dek_block_begin(block, DEK_OP_DISASSOCIATE, endpoint_id(), 7);
    dek_block_disassociate(block, handle);
    dek_block_seal(block);
    return command(block);
}

int Volume::map(std::uint64_t generation, const std::vector<dek_range>& encrypt,
                const std::vector<dek_range>& reserved) {
    auto page = argument<dek_ioc_map>();
    page.generation = generation;
    page.flags = DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT;
    auto add = [&](const dek_range& r, std::uint32_t kind) {
        page.entry[page.count++] = {r.first, r.count, kind, 0};
    };
    std::size_t i = 0, j = 0;
    while (i < encrypt.size() || j < reserved.size()) {
        if (j == reserved.size() || (i < encrypt.size() && encrypt[i].first < reserved[j].first))
            add(encrypt[i++], DEK_MAP_ENCRYPT);
        else
            add(reserved[j++], DEK_MAP_RESERVED);
    }
    return caller_.call(DEK_IOC_MAP, page);
}

int Volume::quiesce(std::uint64_t first, std::uint64_t count, std::uint64_t& token,
                    std::uint32_t timeout_ms) {
    auto q = argument<dek_ioc_quiesce>();
    q.first = first;
    q.count = count;
    q.timeout_ms = timeout_ms;
    const int error = caller_.call(DEK_IOC_QUIESCE, q);
    if (!error)
        token = q.token;
    return error;
}

int Volume::release(std::uint64_t token) {
    auto r = argument<dek_ioc_release>();
    r.token = token;
    return caller_.call(DEK_IOC_RELEASE, r);
}

int Volume::yield(std::uint64_t token, std::uint64_t first, std::uint64_t count) {
    auto y = argument<dek_ioc_yield>();
    y.token = token;
    y.first = first;
    y.count = count;
    return caller_.call(DEK_IOC_YIELD, y);
}

int Volume::engine(std::uint32_t engine) {
    auto e = argument<dek_ioc_engine>();
    e.engine = engine;
    return caller_.call(DEK_IOC_ENGINE, e);
}

dek_list_entry Volume::listed() {
    dek_ioc_list list{};
    if (caller_.call(DEK_IOC_LIST, list))
        give_up("DEK_IOC_LIST");
    for (unsigned i = 0; i < list.count; i++)
        if (std::memcmp(list.entry[i].uuid, place_.uuid.data(), DEK_UUID_SIZE) == 0)
            return list.entry[i];
    throw std::runtime_error("not in the first page of the list");
}

dek_ioc_stats Volume::stats() {
    auto s = argument<dek_ioc_stats>();
    if (caller_.call(DEK_IOC_STATS, s))
        give_up("DEK_IOC_STATS");
    return s;
}

std::vector<dek_range_entry> Volume::ranges() {
    std::vector<dek_range_entry> all;
    auto page = argument<dek_ioc_ranges>();
    do {
        if (caller_.call(DEK_IOC_RANGES, page))
            give_up("DEK_IOC_RANGES");
        all.insert(all.end(), page.entry, page.entry + page.count);
    } while (page.more);
    return all;
}

std::vector<dek_association_entry> Volume::associations() {
    std::vector<dek_association_entry> all;
    auto page = argument<dek_ioc_associations>();
    do {
        if (!all.empty())
            page.cursor = all.back().handle;
        if (caller_.call(DEK_IOC_ASSOCIATIONS, page))
            give_up("DEK_IOC_ASSOCIATIONS");
        all.insert(all.end(), page.entry, page.entry + page.count);
    } while (page.more);
    return all;
}

std::vector<dek_token_entry> Volume::tokens() {
    std::vector<dek_token_entry> all;
    auto page = argument<dek_ioc_tokens>();
    do {
        if (!all.empty())
            page.cursor = all.back().token;
        if (caller_.call(DEK_IOC_TOKENS, page))
            give_up("DEK_IOC_TOKENS");
        all.insert(all.end(), page.entry, page.entry + page.count);
    } while (page.more);
    return all;
}

int Volume::write_bytes(std::uint64_t byte, const Bytes& data) {
    const Aligned buffer(data.size());
    std::memcpy(buffer.memory, data.data(), data.size());
    const ssize_t n = ::pwrite(node_, buffer.memory, data.size(), static_cast<off_t>(byte));
    if (n < 0)
        return errno;
    return static_cast<std::size_t>(n) == data.size() ? 0 : ENODATA;
}

int Volume::read_bytes(std::uint64_t byte, Bytes& data) {
    const Aligned buffer(data.size());
    const ssize_t n = ::pread(node_, buffer.memory, data.size(), static_cast<off_t>(byte));
    if (n < 0)
        return errno;
    std::memcpy(data.data(), buffer.memory, static_cast<std::size_t>(n));
    return static_cast<std::size_t>(n) == data.size() ? 0 : ENODATA;
}

int Volume::write(std::uint64_t sector, const Bytes& data) {
    return write_bytes(sector * 512, data);
}

int Volume::read(std::uint64_t sector, Bytes& data) {
    return read_bytes(sector * 512, data);
}

Bytes Volume::on_device(std::uint64_t sector, std::uint64_t count) const {
    Bytes bytes(count * 512);
    const int fd = ::open(place_.backing.c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t n = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(sector * 512));
    ::close(fd);
    if (n != static_cast<ssize_t>(bytes.size()))
        give_up(place_.backing);
    return bytes;
}

void Volume::put_on_device(std::uint64_t sector, const Bytes& data) {
    const int fd = ::open(place_.backing.c_str(), O_WRONLY | O_CLOEXEC);
    const ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(sector * 512));
    ::close(fd);
    if (n != static_cast<ssize_t>(data.size()))
        give_up(place_.backing);
}

Bytes pattern(std::size_t size, unsigned seed) {
    Bytes bytes(size);
    std::uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
    for (auto& b : bytes) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b = static_cast<std::uint8_t>(x >> 32);
    }
    return bytes;
}

Bytes test_key(std::size_t size, unsigned seed) {
    return pattern(size, 1000 + seed);
}

Bytes expected(const Association& a, std::uint64_t lba, const Bytes& plain) {
    const std::uint32_t unit = a.geometry.data_unit;
    Bytes out(plain.size());
    const std::unique_ptr<EVP_CIPHER_CTX, void (*)(EVP_CIPHER_CTX*)> context(EVP_CIPHER_CTX_new(),
                                                                             EVP_CIPHER_CTX_free);
    for (std::size_t at = 0; at < plain.size(); at += unit) {
        std::uint64_t number = logical_lba(a.geometry, lba + at / 512);
        if (a.geometry.tweak_rule == DEK_TWEAK_UNIT)
            number /= unit / 512;
        std::uint8_t iv[16]{};
        for (unsigned i = 0; i < 8; i++)
            iv[i] = static_cast<std::uint8_t>(number >> (8 * i));
        int n = 0;
        const auto* cipher = a.key.size() == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
        if (EVP_EncryptInit_ex(context.get(), cipher, nullptr, a.key.data(), iv) != 1 ||
            EVP_EncryptUpdate(context.get(), out.data() + at, &n, plain.data() + at,
                              static_cast<int>(unit)) != 1)
            throw std::runtime_error("OpenSSL fails");
    }
    return out;
}

} // namespace conformance
