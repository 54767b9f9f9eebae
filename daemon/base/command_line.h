// SPDX-License-Identifier: Apache-2.0
// What the daemons and dek-probe say of their command lines: one sentence, on one line.
#pragma once

#include <iostream>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

namespace dek {

// An option that takes one of these words.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value,
                        const std::map<std::string, T>& words, const std::string& help) {
    std::string all;
    for (const auto& [word, meaning] : words)
        all += (all.empty() ? "" : "|") + word;
    const auto take = [name, &value, words, all](const std::string& text) {
        const auto found = words.find(text);
        if (found == words.end())
            throw CLI::ValidationError(name + " is not one of " + all + ": " + text);
        value = found->second;
    };
    return app.add_option_function<std::string>(name, take, help)->type_name(all);
}

// Prints help, version or what is wrong; the exit status: 0, or 2 for wrong usage.
inline int end_of_usage(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0)
        return app.exit(error);
    std::cerr << app.get_name() << ": " << error.what() << "; see " << app.get_name()
              << " --help\n";
    return 2;
}

} // namespace dek
