// SPDX-License-Identifier: Apache-2.0
// Secrets have pages of their own, so that locking, dump exclusion and wiping never touch, or
// depend on, what else lies on the heap.
#include "base/secret.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/fd.h"

namespace dek {
namespace {

std::size_t whole_pages(std::size_t size) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    if (size > SIZE_MAX - page)
        throw std::bad_alloc();
    return (size + page - 1) / page * page;
}

// CAP_IPC_LOCK lifts RLIMIT_MEMLOCK; being root in a container does not imply it.
bool may_lock_without_limit() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
    if (::syscall(SYS_capget, &header, data) != 0)
        return false;
    return (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

bool lock_pages(void* at, std::size_t size) {
    if (::mlock(at, size) == 0)
        return true;
    const bool over_limit = errno == ENOMEM || errno == EPERM || errno == EAGAIN;
    return over_limit && !may_lock_without_limit();
}

std::uint8_t* map_pages(std::size_t size) {
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        throw std::bad_alloc();
    if (::madvise(at, size, MADV_DONTDUMP) != 0 || ::madvise(at, size, MADV_WIPEONFORK) != 0 ||
        !lock_pages(at, size)) {
        ::munmap(at, size);
        throw std::bad_alloc();
    }
    return static_cast<std::uint8_t*>(at);
}

} // namespace

Secret::Secret(std::size_t size) {
    if (size == 0)
        return;
    mapped_ = whole_pages(size);
    data_ = map_pages(mapped_);
    size_ = size;
}

Secret Secret::copy_of(std::span<const std::uint8_t> bytes) {
    Secret copy(bytes.size());
    std::copy(bytes.begin(), bytes.end(), copy.data_);
    return copy;
}

// Straight from the kernel: a generator in this process would keep state in unlocked memory.
Secret Secret::random(std::size_t size) {
    Secret drawn(size);
    for (std::size_t done = 0; done < size;) {
        const ssize_t got = ::getrandom(drawn.data_ + done, size - done, 0);
        if (got < 0 && errno != EINTR)
            throw std::system_error(errno, std::generic_category(), "getrandom");
        done += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return drawn;
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
    if (this != &other) {
        wipe();
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        mapped_ = std::exchange(other.mapped_, 0);
    }
    return *this;
}

Secret::~Secret() {
    wipe();
}

Secret Secret::clone() const {
    return copy_of(bytes());
}

void Secret::wipe() noexcept {
    if (data_ == nullptr)
        return;
    OPENSSL_cleanse(data_, mapped_);
    ::munmap(data_, mapped_);
    data_ = nullptr;
    size_ = mapped_ = 0;
}

void Secret::truncate(std::size_t size) noexcept {
    if (size >= size_)
        return;
    if (size == 0)
        return wipe();
    OPENSSL_cleanse(data_ + size, size_ - size);
    size_ = size;
}

bool Secret::equals(std::span<const std::uint8_t> other) const {
    return other.size() == size_ && (size_ == 0 || CRYPTO_memcmp(data_, other.data(), size_) == 0);
}

Result<Secret> read_secret(int fd, std::size_t max, const std::string& what) {
    Secret buffer(max + 1); // one more, to notice what is too long
    std::size_t filled = 0;
    while (filled < buffer.size()) {
        const auto room = buffer.bytes().subspan(filled);
        const ssize_t got = ::read(fd, room.data(), room.size());
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(errno, what + " cannot be read");
        if (got == 0)
            break;
        filled += static_cast<std::size_t>(got);
    }
    if (filled == 0)
        return fail(Errc::invalid_argument, what + " is empty");
    if (filled > max)
        return fail(Errc::invalid_argument,
                    what + " is longer than " + std::to_string(max) + " bytes");
    buffer.truncate(filled);
    return buffer;
}

Result<Secret> read_secret_file(const std::string& path, std::size_t max, const std::string& what) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        return fail_errno(errno, what + " cannot be opened: " + path);
    return read_secret(file.get(), max, what);
}

void harden_process() noexcept {
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    // Under a limit, MCL_FUTURE would make later allocations fail; secrets lock their own pages
    // then.
    rlimit lock{};
    const bool unlimited =
        ::getrlimit(RLIMIT_MEMLOCK, &lock) == 0 && lock.rlim_cur == RLIM_INFINITY;
    if (unlimited || may_lock_without_limit())
        ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

} // namespace dek
