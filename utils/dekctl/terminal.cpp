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

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"

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

volatile std::sig_atomic_t caught = 0;

void catch_signal(int signal) {
    caught = signal;
}

// The echo is off as long as this lives. Signals that would end the program are only noticed
// meanwhile (in wait_for_key()), and take effect when the echo is back.
class NoEcho {
  public:
    explicit NoEcho(int fd) : fd_(fd) {
        caught = 0;
        sigset_t blocked;
        sigemptyset(&blocked);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP})
            sigaddset(&blocked, signal);
        sigprocmask(SIG_BLOCK, &blocked, &before_mask_);
        struct sigaction action {};
        action.sa_handler = catch_signal;
        for (std::size_t i = 0; i < ending.size(); ++i)
            ::sigaction(ending[i], &action, &before_actions_[i]);
        ok_ = tcgetattr(fd, &before_) == 0;
        termios quiet = before_;
        quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL);
        ok_ = ok_ && tcsetattr(fd, TCSAFLUSH, &quiet) == 0;
    }
    ~NoEcho() {
        if (ok_)
            tcsetattr(fd_, TCSAFLUSH, &before_);
        for (std::size_t i = 0; i < ending.size(); ++i)
            ::sigaction(ending[i], &before_actions_[i], nullptr);
        if (caught)
            ::raise(caught);
        sigprocmask(SIG_SETMASK, &before_mask_, nullptr);
    }
    NoEcho(const NoEcho&) = delete;
    NoEcho& operator=(const NoEcho&) = delete;
    bool ok() const { return ok_; }

    // False when a signal came instead.
    bool wait_for_key() const {
        sigset_t mask = before_mask_;
        sigaddset(&mask, SIGTSTP); // stopped without echo, the shell would be left without it
        pollfd readable{fd_, POLLIN, 0};
        while (!caught && ::ppoll(&readable, 1, nullptr, &mask) < 0 && errno == EINTR)
            continue;
        return !caught;
    }

  private:
    static constexpr std::array<int, 4> ending{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    int fd_;
    bool ok_ = false;
    termios before_{};
    sigset_t before_mask_{};
    std::array<struct sigaction, 4> before_actions_{};
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
Result<Secret> read_line(int fd, const NoEcho& quiet) {
    Secret line(longest_line);
    std::size_t used = 0;
    for (;;) {
        unsigned char* at = line.bytes().data() + used;
        const ssize_t n = quiet.wait_for_key() ? ::read(fd, at, 1) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(errno, "cannot read from the terminal");
        if (n == 0)
            return fail(Errc::invalid_argument, "the question was not answered");
        if (*at == '\n')
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
    Result<Secret> line = read_line(fd, quiet);
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
