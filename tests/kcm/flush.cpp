// SPDX-License-Identifier: Apache-2.0
#include "flush.h"

#include <cerrno>

#include <sys/syscall.h>
#include <unistd.h>

namespace kcmtest {

std::function<int(int fd)> on_flush;
std::function<int(int fd)> on_write;

namespace {

long pass(const std::function<int(int)>& look, int fd, const std::function<long()>& call) {
    const int error = look ? look(fd) : 0;
    if (error == 0)
        return call();
    errno = error;
    return -1;
}

} // namespace
} // namespace kcmtest

using kcmtest::pass;

// In the program itself, so that they go before the C library's.
extern "C" {
int fsync(int fd) {
    return static_cast<int>(pass(kcmtest::on_flush, fd, [&] { return ::syscall(SYS_fsync, fd); }));
}
int fdatasync(int fd) {
    return static_cast<int>(
        pass(kcmtest::on_flush, fd, [&] { return ::syscall(SYS_fdatasync, fd); }));
}
ssize_t pwrite(int fd, const void* from, std::size_t n, off_t at) {
    return pass(kcmtest::on_write, fd, [&] { return ::syscall(SYS_pwrite64, fd, from, n, at); });
}
ssize_t pwrite64(int fd, const void* from, std::size_t n, off64_t at) {
    return pass(kcmtest::on_write, fd, [&] { return ::syscall(SYS_pwrite64, fd, from, n, at); });
}
}
