// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"

#include <fcntl.h>

namespace dek::ctl {
namespace {

constexpr std::size_t longest_line = 1024;

std::size_t columns_wanted() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char* text = std::getenv("COLUMNS");
    const unsigned long columns = text ? std::strtoul(text, nullptr, 10) : 0;
    return columns ? columns : 80;
}

// Keys that would end or stop the program wait until the echo is back.
class NoEcho {
  public:
    explicit NoEcho(int fd) : fd_(fd) {
        sigset_t keys;
        sigemptyset(&keys);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP})
            sigaddset(&keys, signal);
        sigprocmask(SIG_BLOCK, &keys, &before_mask_);
        ok_ = tcgetattr(fd, &before_) == 0;
        termios quiet = before_;
        // ISIG off: Ctrl-C arrives as a character and ends the question.
        quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL | ISIG);
        ok_ = ok_ && tcsetattr(fd, TCSAFLUSH, &quiet) == 0;
    }
    ~NoEcho() {
        if (ok_)
            tcsetattr(fd_, TCSAFLUSH, &before_);
        sigprocmask(SIG_SETMASK, &before_mask_, nullptr);
    }
    NoEcho(const NoEcho&) = delete;
    NoEcho& operator=(const NoEcho&) = delete;
    bool ok() const { return ok_; }

  private:
    int fd_;
    bool ok_ = false;
    termios before_{};
    sigset_t before_mask_{};
};

void say(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(fd, text.data(), text.size());
        if (n <= 0)
            return;
        text.remove_prefix(static_cast<std::size_t>(n));
    }
}

// Straight into locked memory, one byte at a time: no buffer of the C library sees it.
Result<Secret> read_line(int fd) {
    Secret line(longest_line);
    std::size_t used = 0;
    for (;;) {
        unsigned char* at = line.bytes().data() + used;
        const ssize_t n = ::read(fd, at, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(errno, "cannot read from the terminal");
        if (n == 0 || *at == 3 || *at == 28) // end, Ctrl-C, Ctrl-backslash
            return fail(Errc::invalid_argument, "the question was not answered");
        if (*at == '\n' || *at == '\r')
            break;
        if (++used == longest_line)
            return fail(Errc::invalid_argument, "the answer is longer than 1023 bytes");
    }
    if (used == 0)
        return fail(Errc::invalid_argument, "the answer is empty");
    line.truncate(used);
    return line;
}

Result<Secret> ask_once(int fd, const std::string& question) {
    const NoEcho quiet(fd);
    if (!quiet.ok())
        return fail(Errc::io, "cannot switch the terminal's echo off");
    say(fd, question + ": ");
    Result<Secret> line = read_line(fd);
    say(fd, "\n");
    return line;
}

} // namespace

std::size_t terminal_width() {
    return std::clamp<std::size_t>(columns_wanted(), 40, 200);
}

bool colour_wanted() {
    const char* no = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) && !(no && *no) && term && std::string_view(term) != "dumb";
}

Waiting::Waiting(std::string what)
    : what_(std::move(what)), start_(std::chrono::steady_clock::now()),
      terminal_(::isatty(STDERR_FILENO)) {}

Waiting::~Waiting() {
    if (shown_)
        say(STDERR_FILENO, "\r\033[K");
}

void Waiting::tick() {
    constexpr std::array<const char*, 4> sign{"|", "/", "-", "\\"};
    using namespace std::chrono;
    const auto passed = duration_cast<milliseconds>(steady_clock::now() - start_).count();
    if (!terminal_ || passed < 1000)
        return;
    shown_ = true;
    say(STDERR_FILENO, "\r\033[K" + what_ + " " + sign[static_cast<std::size_t>(passed / 200) % 4] +
                           " " + std::to_string(passed / 1000) + " s");
}

bool can_ask() {
    return ::isatty(STDIN_FILENO) && ::isatty(STDERR_FILENO);
}

Result<Secret> ask_secret(const std::string& question, bool twice) {
    const Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    if (!terminal)
        return fail(Errc::invalid_argument, "there is no terminal to ask on");
    Result<Secret> first = ask_once(terminal.get(), question);
    if (!first || !twice)
        return first;
    const Result<Secret> second = ask_once(terminal.get(), question + " (again)");
    if (!second)
        return tl::unexpected<Error>(second.error());
    if (!first->equals(second->bytes()))
        return fail(Errc::invalid_argument, "the two answers differ");
    return first;
}

bool ask_yes(const std::string& question) {
    std::cerr << question << " Type yes: " << std::flush;
    std::string answer;
    return std::getline(std::cin, answer) && answer == "yes";
}

} // namespace dek::ctl
