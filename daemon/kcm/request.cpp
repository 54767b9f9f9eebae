// SPDX-License-Identifier: Apache-2.0
#include "kcm/request.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>

#include <poll.h>
#include <unistd.h>

namespace dek::kcm {
namespace {

using nlohmann::json;

constexpr std::uint64_t largest_number = 1ull << 53;
constexpr std::chrono::seconds secret_patience{10};

bool is_number(const json& value, std::uint64_t limit) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= limit;
}

bool is_text(const json& value) {
    return value.is_string() && !value.get_ref<const std::string&>().empty() &&
           value.get_ref<const std::string&>().find('\0') == std::string::npos;
}

std::optional<std::uint64_t> handle_of(const json& value) {
    if (is_number(value, largest_number))
        return value.get<std::uint64_t>();
    if (!value.is_string() || value.get_ref<const std::string&>().rfind("0x", 0) != 0)
        return std::nullopt;
    const std::string digits = value.get<std::string>().substr(2);
    std::uint64_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, number, 16);
    return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

bool fits(const json& value, ArgType type, std::size_t fds) {
    switch (type) {
    case ArgType::text:
        return is_text(value);
    case ArgType::flag:
        return value.is_boolean();
    case ArgType::number:
        return is_number(value, largest_number);
    case ArgType::handle:
        return handle_of(value).has_value();
    case ArgType::object:
        return value.is_object() && std::all_of(value.begin(), value.end(), is_text);
    case ArgType::list:
        return value.is_array();
    case ArgType::fd:
        return fds > 0 && is_number(value, fds - 1);
    }
    return false;
}

const char* type_text(ArgType type) {
    switch (type) {
    case ArgType::text:
        return "text";
    case ArgType::flag:
        return "true or false";
    case ArgType::number:
        return "a whole number";
    case ArgType::handle:
        return "a handle";
    case ArgType::object:
        return "an object of texts";
    case ArgType::list:
        return "an array";
    case ArgType::fd:
        return "the index of a descriptor that was passed";
    }
    return "";
}

Result<void> check_known(const json& args, std::span<const ArgSpec> specs) {
    for (const auto& [name, value] : args.items())
        if (std::none_of(specs.begin(), specs.end(),
                         [&, n = name](const ArgSpec& s) { return s.name == n; }))
            return fail(Errc::invalid_argument, "there is no argument \"" + name + "\" here");
    return {};
}

// A descriptor nobody names is a mistake, and may be a key.
Result<void> check_descriptors(const std::vector<std::size_t>& named, std::size_t passed) {
    std::vector<std::size_t> sorted = named;
    std::sort(sorted.begin(), sorted.end());
    if (sorted.size() != passed || std::unique(sorted.begin(), sorted.end()) != sorted.end())
        return fail(Errc::invalid_argument,
                    "each descriptor passed has to be named by exactly one argument");
    return {};
}

} // namespace

Result<Request> Request::parse(const std::string& text, std::span<const int> fds,
                               std::span<const ArgSpec> specs) {
    const json args = json::parse(text, nullptr, false);
    if (!args.is_object())
        return fail(Errc::invalid_argument, "the arguments are no JSON object");
    if (auto known = check_known(args, specs); !known)
        return tl::unexpected(known.error());
    Request request;
    request.args_ = json::object();
    request.fds_.assign(fds.begin(), fds.end());
    std::vector<std::size_t> named;
    for (const auto& spec : specs) {
        const std::string name = spec.name;
        if (!args.contains(name)) {
            if (spec.required)
                return fail(Errc::invalid_argument, "argument \"" + name + "\" is missing");
            continue;
        }
        const json& value = args.at(name);
        if (!fits(value, spec.type, fds.size()))
            return fail(Errc::invalid_argument,
                        "argument \"" + name + "\" has to be " + type_text(spec.type));
        if (spec.type == ArgType::fd)
            named.push_back(value.get<std::size_t>());
        request.args_[spec.name] = value;
    }
    if (auto all = check_descriptors(named, fds.size()); !all)
        return tl::unexpected(all.error());
    return request;
}

std::string Request::text(const char* name, const std::string& otherwise) const {
    return has(name) ? args_.at(name).get<std::string>() : otherwise;
}

bool Request::flag(const char* name) const {
    return has(name) && args_.at(name).get<bool>();
}

std::uint64_t Request::number(const char* name, std::uint64_t otherwise) const {
    return has(name) ? args_.at(name).get<std::uint64_t>() : otherwise;
}

std::uint64_t Request::handle(const char* name) const {
    return has(name) ? handle_of(args_.at(name)).value_or(0) : 0;
}

std::map<std::string, std::string> Request::object(const char* name) const {
    return has(name) ? args_.at(name).get<std::map<std::string, std::string>>()
                     : std::map<std::string, std::string>();
}

int Request::fd(const char* name) const {
    return fds_.at(args_.at(name).get<std::size_t>());
}

Result<Secret> Request::secret(const char* name, std::size_t max) const {
    const auto until = std::chrono::steady_clock::now() + secret_patience;
    Secret buffer(max + 1);
    std::size_t size = 0;
    while (size <= max) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            until - std::chrono::steady_clock::now());
        pollfd p{fd(name), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&p, 1, static_cast<int>(left.count())) == 0)
            return fail(Errc::timeout,
                        "nothing comes from descriptor \"" + std::string(name) + "\"");
        const ssize_t n = ::read(fd(name), buffer.bytes().data() + size, max + 1 - size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return fail_errno(errno, "descriptor \"" + std::string(name) + "\" cannot be read");
        if (n == 0)
            break;
        size += static_cast<std::size_t>(n);
    }
    if (size == 0 || size > max)
        return fail(Errc::invalid_argument,
                    "what is given as " + std::string(name) + " has " +
                        (size ? "more than " + std::to_string(max) + " bytes" : "no bytes"));
    buffer.truncate(size);
    return buffer;
}

} // namespace dek::kcm
