// SPDX-License-Identifier: Apache-2.0
#include "secret_source.h"

#include <cerrno>
#include <cstdio>
#include <iostream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/durable.h"

#include "printable.h"
#include "terminal.h"

namespace dek::ctl {
namespace {

void warn_if_others_read(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || !(status.st_mode & 077))
        return;
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%04o", static_cast<unsigned>(status.st_mode & 07777));
    std::cerr << "dekctl: warning: others may read " << printable(path) << " (mode " << mode
              << "); chmod 600 it\n";
}

Result<Fd> open_source(const std::string& path, const std::string& what) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd)
        return fail_errno(errno, "cannot read " + what + " from " + path);
    warn_if_others_read(fd.get(), path);
    return fd;
}

} // namespace

Result<Secret> secret_from(const std::string& path, std::size_t max, const std::string& what) {
    if (path == "-") {
        if (::isatty(STDIN_FILENO))
            return fail(Errc::invalid_argument,
                        "standard input is a terminal, which would show " + what);
        return read_secret(STDIN_FILENO, max, what);
    }
    const Result<Fd> fd = open_source(path, what);
    if (!fd)
        return tl::unexpected<Error>(fd.error());
    return read_secret(fd->get(), max, what);
}

Result<Secret> key_material_from(const std::string& path) {
    Result<Secret> key = secret_from(path, 64, "the key");
    if (key && key->size() != 32 && key->size() != 64)
        return fail(Errc::invalid_argument,
                    "a key has 32 bytes (AES-128-XTS) or 64 (AES-256-XTS), and here are " +
                        std::to_string(key->size()));
    return key;
}

Result<Secret> passphrase_from(const std::string& path, const std::string& what, bool sets) {
    if (path.empty()) {
        if (!can_ask())
            return fail(Errc::invalid_argument, "there is no terminal to ask for " + what +
                                                    "; name a file, or - for standard input");
        std::string question = what.substr(what.find(' ') + 1); // without "the"
        question[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(question[0])));
        return ask_secret(question, sets);
    }
    Result<Secret> line = path == "-" && can_ask() ? ask_secret("Passphrase", sets)
                                                   : secret_from(path, max_passphrase, what);
    if (!line)
        return line;
    if (line->bytes().back() == '\n')
        line->truncate(line->size() - 1);
    if (line->empty())
        return fail(Errc::invalid_argument, what + " is empty");
    return line;
}

Result<void> write_out(int fd, std::span<const std::uint8_t> bytes, const std::string& what) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(errno, "cannot write " + what);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<Fd> pipe_with(const Secret& secret) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno(errno, "cannot make a pipe");
    Fd read(ends[0]), write(ends[1]);
    if (Result<void> written = write_out(write.get(), secret.bytes(), "to a pipe"); !written)
        return tl::unexpected<Error>(written.error());
    ::fcntl(read.get(), F_SETFL, 0); // the controller reads it as it would a file
    return read;
}

Result<Pipe> empty_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return fail_errno(errno, "cannot make a pipe");
    Pipe made{Fd(ends[0]), Fd(ends[1])};
    ::fcntl(made.read.get(), F_SETFL, O_NONBLOCK);
    return made;
}

Result<NewFile> NewFile::create(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600));
    if (!fd)
        return fail_errno(errno, "cannot make " + path);
    return NewFile(path, std::move(fd));
}

NewFile::~NewFile() {
    if (fd_)
        ::unlink(path_.c_str());
}

Result<Fd> NewFile::duplicate() const {
    Fd copy(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 3));
    if (!copy)
        return fail_errno(errno, "cannot open " + path_ + " once more");
    return copy;
}

Result<void> NewFile::write(std::span<const std::uint8_t> bytes) {
    return write_out(fd_.get(), bytes, path_);
}

Result<void> NewFile::keep() {
    if (::fsync(fd_.get()) != 0)
        return fail_errno(errno, "cannot write " + path_);
    fd_.reset(); // from here on it stays
    return sync_directory_of(path_);
}

} // namespace dek::ctl
