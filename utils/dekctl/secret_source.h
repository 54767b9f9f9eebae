// SPDX-License-Identifier: Apache-2.0
// Where keys and passphrases come from (a file, standard input, the terminal) and how they travel
// to the controller: as descriptors of pipes, never in a message.
#pragma once

#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/secret.h"

namespace dek::ctl {

inline constexpr std::size_t max_passphrase = 4096; // bytes; a pipe holds far more
inline constexpr std::size_t max_wrapped = 32768;

// Raw bytes of `path` ("-": standard input), at most `max`. Warns on standard error about a file
// that others may read.
Result<Secret> secret_from(const std::string& path, std::size_t max, const std::string& what);
// 32 or 64 raw bytes, or a sentence that says what was found instead.
Result<Secret> key_material_from(const std::string& path);
// A line of text: one trailing newline is not part of it. An empty `path` asks on the terminal,
// twice when it is being set (`sets`).
Result<Secret> passphrase_from(const std::string& path, const std::string& what, bool sets);

// The read end of a pipe that holds the secret and nothing more; the pages are the kernel's own,
// are never swapped, and go when they are read.
Result<Fd> pipe_with(const Secret& secret);

// A pipe for what the controller hands out. The read end does not block.
struct Pipe {
    Fd read, write;
};
Result<Pipe> empty_pipe();

// All of it, without a buffer in between.
Result<void> write_out(int fd, std::span<const std::uint8_t> bytes, const std::string& what);

// A new file of mode 0600; Errc::exists when there is one. Goes again unless keep() was called.
class NewFile {
  public:
    static Result<NewFile> create(const std::string& path);
    NewFile(NewFile&&) noexcept = default;
    ~NewFile();
    int fd() const { return fd_.get(); }
    Result<Fd> duplicate() const;
    Result<void> write(std::span<const std::uint8_t> bytes);
    Result<void> keep(); // durable when it returns

  private:
    NewFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
    std::string path_;
    Fd fd_;
};

} // namespace dek::ctl
