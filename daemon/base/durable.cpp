// SPDX-License-Identifier: Apache-2.0
// Temporary file, fsync, rename, fsync of the directory.
#include "base/durable.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.h"

namespace dek {
namespace {

Result<void> write_all(int fd, std::span<const std::uint8_t> bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t done = ::write(fd, bytes.data(), bytes.size());
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(errno, path + " cannot be written");
        bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return {};
}

// `path` is what it is going to be called, and is called in errors.
Result<void> write_new_file(const std::string& fresh, const std::string& path,
                            std::span<const std::uint8_t> bytes, mode_t mode) {
    const Fd file(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, path + " cannot be created");
    if (auto written = write_all(file.get(), bytes, path); !written)
        return written;
    if (::fchmod(file.get(), mode) != 0)
        return fail_errno(errno, path + " cannot be given its mode");
    return {};
}

Result<void> sync_path(const std::string& path, int flags) {
    const Fd file(::open(path.c_str(), flags | O_CLOEXEC));
    if (!file)
        return fail_errno(errno, path + " cannot be opened");
    if (::fsync(file.get()) != 0)
        return fail_errno(errno, path + " cannot be made durable");
    return {};
}

// Filesystems without RENAME_NOREPLACE (NFS, some FUSE ones) mostly have hard links.
int rename_exclusively(const std::string& from, const std::string& to) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (::link(from.c_str(), to.c_str()) != 0)
        return -1;
    return ::unlink(from.c_str());
}

Result<void> write_file(const std::string& path, std::span<const std::uint8_t> bytes, mode_t mode,
                        bool exclusive) {
    const std::string fresh = sibling_name(path);
    auto done = write_new_file(fresh, path, bytes, mode);
    if (done)
        done = install_file_durably(fresh, path, exclusive);
    if (!done)
        ::unlink(fresh.c_str());
    return done;
}

} // namespace

std::string sibling_name(const std::string& path) {
    std::uint64_t number = 0;
    // A poor number only makes a clash possible, and O_EXCL notices that.
    if (::getrandom(&number, sizeof number, 0) != sizeof number)
        number = static_cast<std::uint64_t>(::getpid());
    char suffix[32];
    std::snprintf(suffix, sizeof suffix, ".new-%016" PRIx64, number);
    return path + suffix;
}

Result<void> sync_directory_of(const std::string& path) {
    const auto slash = path.rfind('/');
    std::string directory = ".";
    if (slash != std::string::npos)
        directory = path.substr(0, slash == 0 ? 1 : slash);
    return sync_path(directory, O_RDONLY | O_DIRECTORY);
}

Result<void> install_file_durably(const std::string& from, const std::string& to, bool exclusive) {
    if (auto synced = sync_path(from, O_RDONLY); !synced)
        return synced;
    const int renamed =
        exclusive ? rename_exclusively(from, to) : ::rename(from.c_str(), to.c_str());
    if (renamed != 0)
        return fail_errno(errno, to + " cannot be put in place");
    return sync_directory_of(to);
}

Result<void> write_file_durably(const std::string& path, std::span<const std::uint8_t> bytes,
                                mode_t mode) {
    return write_file(path, bytes, mode, false);
}

Result<void> create_file_durably(const std::string& path, std::span<const std::uint8_t> bytes,
                                 mode_t mode) {
    return write_file(path, bytes, mode, true);
}

} // namespace dek
