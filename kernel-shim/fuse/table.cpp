// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dek::shim {

struct VolumeTable::Layout {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t slot_size;
    std::uint32_t orderly;
    std::uint32_t reserved;
    Slot slots[kMaxVolumes];
};

namespace {

constexpr std::uint64_t kMagic = 0x656c626174'6b6564; // "dektable"
constexpr std::uint32_t kVersion = 3;

template <class T>
void store(T& where, T value) {
    std::atomic_ref<T>(where).store(value, std::memory_order_release);
}

// dek_ioc_volume's members are naturally aligned in it, and it is in Slot; no compiler warns so.
static_assert(offsetof(Slot, config) % 8 == 0);
static_assert(offsetof(dek_ioc_volume, count) % 8 == 0 && offsetof(dek_ioc_volume, fence) % 4 == 0);

} // namespace

Result<VolumeTable> VolumeTable::map(Fd memfd) {
    void* memory = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_POPULATE, memfd.get(), 0);
    if (memory == MAP_FAILED)
        return fail_errno(errno, "mapping the volume table");
    return VolumeTable(std::move(memfd), static_cast<Layout*>(memory));
}

Result<VolumeTable> VolumeTable::create() {
    Fd memfd(::memfd_create("dek-volumes", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memfd || ::ftruncate(memfd.get(), sizeof(Layout)) < 0 ||
        ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return fail_errno(errno, "making the volume table");
    auto table = map(std::move(memfd));
    if (table) {
        table->memory_->version = kVersion;
        table->memory_->slot_size = sizeof(Slot);
        table->memory_->orderly = 1;
        store(table->memory_->magic, kMagic);
    }
    return table;
}

Result<VolumeTable> VolumeTable::open(Fd memfd) {
    struct stat info {};
    if (::fstat(memfd.get(), &info) < 0)
        return fail_errno(errno, "the volume table");
    if (static_cast<std::size_t>(info.st_size) != sizeof(Layout))
        return fail(Errc::unsupported, "the volume table of another version of dek-shimd");
    auto table = map(std::move(memfd));
    if (table && (table->memory_->magic != kMagic || table->memory_->version != kVersion ||
                  table->memory_->slot_size != sizeof(Slot)))
        return fail(Errc::unsupported, "the volume table of another version of dek-shimd");
    return table;
}

VolumeTable::VolumeTable(VolumeTable&& other) noexcept
    : fd_(std::move(other.fd_)), memory_(std::exchange(other.memory_, nullptr)) {}

VolumeTable::~VolumeTable() {
    if (memory_)
        ::munmap(memory_, sizeof(Layout));
}

std::span<Slot> VolumeTable::slots() const {
    return memory_->slots;
}

bool VolumeTable::used(unsigned slot) const {
    return std::atomic_ref<std::uint32_t>(slots()[slot].used).load(std::memory_order_acquire) == 1;
}

int VolumeTable::find_free() const {
    for (unsigned i = 0; i < size(); i++)
        if (!used(i))
            return static_cast<int>(i);
    return -1;
}

void VolumeTable::prepare(unsigned slot, const dek_ioc_volume& config,
                          const DeviceIdentity& identity) {
    Slot& s = slots()[slot];
    s.had_map = 0;
    s.flush_failed = 0;
    s.flushes = 0;
    s.restarts = 0;
    s.flushes_unknown = 0;
    s.identity = identity;
    s.config = config;
}

void VolumeTable::commit(unsigned slot) {
    store(slots()[slot].used, 1u);
}

void VolumeTable::erase(unsigned slot) {
    store(slots()[slot].used, 0u);
}

void VolumeTable::set_count(unsigned slot, std::uint64_t count) {
    auto& where = slots()[slot].config.count;
    store<std::remove_reference_t<decltype(where)>>(where, count);
}

void VolumeTable::set_fence(unsigned slot, std::uint32_t fence) {
    store(slots()[slot].config.fence, fence);
}

void VolumeTable::set_flags(unsigned slot, std::uint32_t flags) {
    store(slots()[slot].config.flags, flags);
}

void VolumeTable::set_had_map(unsigned slot) {
    store(slots()[slot].had_map, 1u);
}

void VolumeTable::count_restart(unsigned slot) {
    store(slots()[slot].restarts, slots()[slot].restarts + 1);
}

std::uint32_t VolumeTable::settle_flushes(unsigned slot) {
    Slot& s = slots()[slot];
    const std::uint32_t lost = s.flushes;
    if (lost) {
        store(s.flushes_unknown, s.flushes_unknown + lost);
        store(s.flushes, 0u);
    }
    return lost;
}

bool VolumeTable::orderly() const {
    return std::atomic_ref<std::uint32_t>(memory_->orderly).load(std::memory_order_acquire) == 1;
}

void VolumeTable::set_orderly(bool orderly) {
    store(memory_->orderly, orderly ? 1u : 0u);
}

} // namespace dek::shim
