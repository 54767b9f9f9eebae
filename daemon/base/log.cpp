// SPDX-License-Identifier: Apache-2.0
// Logfmt lines, and the same fields for the journal.
#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

namespace dek {
namespace {

std::atomic<Level> threshold{Level::info};

struct LevelName {
    const char* text;
    int priority; // syslog(3)
};

LevelName name_of(Level level) {
    switch (level) {
    case Level::debug:
        return {"debug", LOG_DEBUG};
    case Level::info:
        return {"info", LOG_INFO};
    case Level::notice:
        return {"notice", LOG_NOTICE};
    case Level::warning:
        return {"warning", LOG_WARNING};
    case Level::error:
        break;
    }
    return {"error", LOG_ERR};
}

std::string escaped(std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte > 0x7e) {
            out += "\\x";
            out += digits[byte >> 4];
            out += digits[byte & 15];
        } else {
            if (c == '"' || c == '\\')
                out += '\\';
            out += c;
        }
    }
    return out;
}

std::string value_of(std::string_view text) {
    const std::string safe = escaped(text);
    const bool bare =
        !safe.empty() && safe == text && safe.find_first_of(" =") == std::string::npos;
    return bare ? safe : '"' + safe + '"';
}

std::string line_of(Level level, std::string_view event, const std::vector<LogField>& fields) {
    std::string line = std::string("level=") + name_of(level).text + " event=" + value_of(event);
    for (const LogField& field : fields)
        line += ' ' + std::string(field.name) + '=' + value_of(field.value);
    return line;
}

// systemd names the journal's stream socket in JOURNAL_STREAM; standard error may have been
// redirected since.
bool stderr_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat now {};
    if (stream == nullptr || ::fstat(STDERR_FILENO, &now) != 0)
        return false;
    return std::to_string(now.st_dev) + ':' + std::to_string(now.st_ino) == stream;
}

void send_to_journal(Level level, std::string_view event, const std::vector<LogField>& fields) {
    std::vector<std::string> entries{
        "MESSAGE=" + line_of(level, event, fields),
        "PRIORITY=" + std::to_string(name_of(level).priority),
        "DEK_EVENT=" + escaped(event),
    };
    for (const LogField& field : fields) {
        std::string name = "DEK_";
        for (const char c : field.name)
            name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        entries.push_back(name + '=' + escaped(field.value));
    }
    std::vector<iovec> parts;
    for (std::string& entry : entries)
        parts.push_back({entry.data(), entry.size()});
    ::sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
}

void write_to_stderr(const std::string& line) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm parts{};
    ::gmtime_r(&now.tv_sec, &parts);
    char date[32];
    char time[64];
    std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(time, sizeof time, "time=%s.%03ldZ ", date, now.tv_nsec / 1000000);
    const std::string text = time + line + '\n';
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0)
        return; // nowhere is left to tell
}

void emit(Level level, std::string_view event, const std::vector<LogField>& fields) {
    if (level < threshold.load(std::memory_order_relaxed))
        return;
    if (stderr_is_journal())
        send_to_journal(level, event, fields);
    else
        write_to_stderr(line_of(level, event, fields));
}

} // namespace

std::string logfmt(Level level, std::string_view event, LogFields fields) {
    return line_of(level, event, fields);
}

void log(Level level, std::string_view event, LogFields fields) noexcept {
    try {
        emit(level, event, fields);
    } catch (...) { // no memory for a line: the work it would tell about goes on
    }
}

void log_error(std::string_view event, const Error& error, LogFields fields) noexcept {
    try {
        std::vector<LogField> all(fields);
        all.emplace_back("code", errc_name(error.code));
        all.emplace_back("reason", error.reason);
        emit(Level::error, event, all);
    } catch (...) { // as above
    }
}

void set_log_threshold(Level level) noexcept {
    threshold.store(level, std::memory_order_relaxed);
}

} // namespace dek
