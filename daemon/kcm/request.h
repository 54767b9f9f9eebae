// SPDX-License-Identifier: Apache-2.0
// The arguments of one call: strict, so that a misspelt word is an error and never a default.
#pragma once

#include <initializer_list>
#include <span>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "base/secret.h"

namespace dek::kcm {

enum class ArgType {
    text,   // a string, not empty, without NUL
    flag,   // a boolean
    number, // an integer, 0..2^53
    handle, // 64 bits: "0x" and hexadecimal digits, or a number
    object, // of strings
    list,   // an array; its elements are the method's to check
    fd,     // the index of a descriptor that came along
};

struct ArgSpec {
    const char* name;
    ArgType type;
    bool required = false;
};

// A value of a message; descriptors are borrowed from it. Not thread-safe.
class Request {
  public:
    // Errc::invalid_argument: not an object, an argument that is unknown, missing, or of the wrong
    // type, or a descriptor that is not there or not named by exactly one argument.
    static Result<Request> parse(const std::string& text, std::span<const int> fds,
                                 std::span<const ArgSpec> specs);

    bool has(const char* name) const { return args_.contains(name); }
    std::string text(const char* name, const std::string& otherwise = "") const;
    bool flag(const char* name) const;
    std::uint64_t number(const char* name, std::uint64_t otherwise = 0) const;
    std::uint64_t handle(const char* name) const; // 0 when it is not there
    std::map<std::string, std::string> object(const char* name) const;
    const nlohmann::json& list(const char* name) const { return args_.at(name); }
    int fd(const char* name) const; // has(name)

    // A secret of at most `max` bytes from the descriptor `name` (has(name)). Errc::timeout when
    // its other end stays open and silent.
    Result<Secret> secret(const char* name, std::size_t max) const;

  private:
    nlohmann::json args_;
    std::vector<int> fds_;
};

} // namespace dek::kcm
