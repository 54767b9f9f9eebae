// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <charconv>
#include <filesystem>

#include <dek/lunmap.hpp>

namespace dek::ctl {
namespace {

constexpr std::uint64_t max_number = std::uint64_t{1} << 53; // what JSON carries exactly

CLI::Option* described(CLI::Option* option, const char* type) {
    return option->type_name(type)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
}

} // namespace

void usage_error(const std::string& option, const std::string& why) {
    throw CLI::ValidationError(option + " " + why);
}

std::uint64_t number_from(const std::string& text, const std::string& option) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number > max_number)
        usage_error(option, "is not a decimal number up to 2^53: " + text);
    return number;
}

void check_ranges(const std::string& ranges, const std::string& option) {
    const auto map = LunMap::parse(ranges, max_number);
    if (!map)
        usage_error(option + ":", map.error());
}

std::string absolute(const std::string& path) {
    std::error_code error;
    const std::filesystem::path full = std::filesystem::absolute(path, error);
    if (path.empty() || error)
        usage_error("the path", path.empty() ? "is empty" : error.message());
    return full.string();
}

CLI::Option* text_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* type, const char* help) {
    return described(app.add_option_function<std::string>(
                         name,
                         [&session, argument, name](const std::string& text) {
                             if (text.empty())
                                 usage_error(name, "is empty");
                             session.arguments[argument] = text;
                         },
                         help),
                     type);
}

CLI::Option* number_option(CLI::App& app, Session& session, const char* name, const char* argument,
                           const char* type, const char* help) {
    return described(app.add_option_function<std::string>(
                         name,
                         [&session, argument, name](const std::string& text) {
                             session.arguments[argument] = number_from(text, name);
                         },
                         help),
                     type);
}

CLI::Option* flag_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* help) {
    return app.add_flag_callback(
        name, [&session, argument] { session.arguments[argument] = true; }, help);
}

CLI::Option* choice_option(CLI::App& app, Session& session, const char* name, const char* argument,
                           std::vector<std::string> words, const char* help) {
    std::string type;
    for (const std::string& word : words)
        type += (type.empty() ? "" : "|") + word;
    return described(app.add_option_function<std::string>(
                         name,
                         [&session, argument, name, words, type](const std::string& text) {
                             if (std::find(words.begin(), words.end(), text) == words.end())
                                 usage_error(name, "is not one of " + type + ": " + text);
                             session.arguments[argument] = text;
                         },
                         help),
                     type.c_str());
}

CLI::Option* path_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* type, const char* help) {
    return described(app.add_option_function<std::string>(
                         name,
                         [&session, argument](const std::string& path) {
                             session.arguments[argument] = absolute(path);
                         },
                         help),
                     type);
}

void device_argument(CLI::App& app, Session& session) {
    const auto take = [&session](const std::string& path) {
        session.about = path;
        session.arguments["device"] = absolute(path);
    };
    described(app.add_option_function<std::string>("device", take, "Block device or image file"),
              "DEVICE")
        ->required();
}

CLI::Option* named_argument(CLI::App& app, Session& session, const char* name, const char* argument,
                            const char* help) {
    const auto take = [&session, argument, name](const std::string& text) {
        if (text.empty())
            usage_error(name, "is empty");
        session.about = text;
        session.arguments[argument] = text;
    };
    return described(app.add_option_function<std::string>(name, take, help), "TEXT");
}

void header_place(CLI::App& app, Session& session) {
    CLI::Option* at = number_option(app, session, "--header-at", "header_at", "LBA",
                                    "The header lies at this LBA of the device");
    CLI::Option* file = path_option(app, session, "--header", "header", "FILE",
                                    "The header lies in this file, not on the device");
    at->excludes(file);
}

} // namespace dek::ctl
