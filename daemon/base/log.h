// SPDX-License-Identifier: Apache-2.0
// The structured log: an event and fields. To the journal when standard error is the journal
// (DEK_EVENT=, DEK_<FIELD>=), one logfmt line on standard error otherwise.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dek {

enum class Level { debug, info, notice, warning, error };

// A value is text or a number. A Secret has no conversion to either, so no key can be passed.
struct LogField {
    LogField(std::string_view name_, std::string_view value_) : name(name_), value(value_) {}
    LogField(std::string_view name_, const char* value_) : name(name_), value(value_) {}
    LogField(std::string_view name_, const std::string& value_) : name(name_), value(value_) {}
    LogField(std::string_view name_, bool value_) : name(name_), value(value_ ? "yes" : "no") {}
    template <std::integral T>
    requires(!std::same_as<T, bool> && !std::same_as<T, char>)
        LogField(std::string_view name_, T value_)
        : name(name_), value(std::to_string(value_)) {}

    std::string_view name; // lower-case letters, digits, underscores; a literal
    std::string value;
};
using LogFields = std::initializer_list<LogField>;

// Thread-safe: a line is one write. Never fails: what cannot be logged is lost.
void log(Level level, std::string_view event, LogFields fields = {}) noexcept;
// `fields` and then code= and reason= of the error.
void log_error(std::string_view event, const Error& error, LogFields fields = {}) noexcept;

// What is below is dropped; info at first. Thread-safe.
void set_log_threshold(Level level) noexcept;

// The line without its time: level=info event=attached volume=data. What is not printable ASCII
// comes as \xNN, so no input can forge a line or reach the terminal.
std::string logfmt(Level level, std::string_view event, LogFields fields);

} // namespace dek
