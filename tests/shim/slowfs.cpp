// SPDX-License-Identifier: Apache-2.0
// A slow disk for tests: shows one file of a folder, direct I/O only, and lets each read, write and
// flush wait before it happens. Writes therefore overtake each other, and are under way for long.
// A file FILE.flush-fails makes the next flush fail, and is gone then: a device tells of it once.
// While there is a file FILE.stat-waits, so does whoever asks for the size.
//
//   slowfs FILE MOUNTPOINT MS [fixed]    0..MS milliseconds at random, or always MS; in the
//   foreground
#define FUSE_USE_VERSION 312
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

int backing = -1;
std::string failing, unanswered; // their presence
unsigned limit_ms;
bool fixed;
constexpr const char kName[] = "/disk";

void dawdle() {
    thread_local std::minstd_rand random{std::random_device{}()};
    const unsigned us = limit_ms * 1000;
    ::usleep(fixed ? us : static_cast<unsigned>(random()) % (us + 1));
}

// Room for all that a lane may submit: beyond it, submitting waits.
void* begin(fuse_conn_info* connection, fuse_config* config) {
    connection->max_background = 256;
    config->attr_timeout = 0;
    return nullptr;
}

int get_attributes(const char* path, struct stat* out, fuse_file_info*) {
    std::memset(out, 0, sizeof(*out));
    if (std::strcmp(path, "/") == 0) {
        out->st_mode = S_IFDIR | 0700;
        return 0;
    }
    if (std::strcmp(path, kName) != 0)
        return -ENOENT;
    while (::access(unanswered.c_str(), F_OK) == 0)
        ::usleep(5000);
    if (::fstat(backing, out) < 0)
        return -errno;
    return 0;
}

int open_disk(const char*, fuse_file_info* file) {
    file->direct_io = 1;
    return 0;
}

int read_disk(const char*, char* to, std::size_t n, off_t at, fuse_file_info*) {
    dawdle();
    const ssize_t got = ::pread(backing, to, n, at);
    return got < 0 ? -errno : static_cast<int>(got);
}

int write_disk(const char*, const char* from, std::size_t n, off_t at, fuse_file_info*) {
    dawdle();
    const ssize_t put = ::pwrite(backing, from, n, at);
    return put < 0 ? -errno : static_cast<int>(put);
}

int sync_disk(const char*, int, fuse_file_info*) {
    dawdle();
    if (::unlink(failing.c_str()) == 0)
        return -EIO;
    return ::fdatasync(backing) < 0 ? -errno : 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: slowfs FILE MOUNTPOINT MS [fixed]\n");
        return 2;
    }
    backing = ::open(argv[1], O_RDWR | O_CLOEXEC);
    failing = std::string(argv[1]) + ".flush-fails";
    unanswered = std::string(argv[1]) + ".stat-waits";
    limit_ms = static_cast<unsigned>(std::atoi(argv[3]));
    fixed = argc > 4;
    if (backing < 0) {
        std::perror(argv[1]);
        return 1;
    }
    fuse_operations ops{};
    ops.init = begin;
    ops.getattr = get_attributes;
    ops.open = open_disk;
    ops.read = read_disk;
    ops.write = write_disk;
    ops.fsync = sync_disk;
    std::vector<std::string> words{argv[0], argv[2], "-f", "-o",
                                   "max_threads=64,max_idle_threads=64,fsname=slowfs"};
    std::vector<char*> arguments;
    for (auto& w : words)
        arguments.push_back(w.data());
    return ::fuse_main(static_cast<int>(arguments.size()), arguments.data(), &ops, nullptr);
}
