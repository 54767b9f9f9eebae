// SPDX-License-Identifier: Apache-2.0
#include "kcm/lvm_filter.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;
using Patterns = std::vector<std::string>; // "r|^/dev/sdb$|", "a/.*/"

std::string text_without_comments(const std::string& path) {
    std::ifstream in(path);
    std::string text;
    for (std::string line; std::getline(in, line);) {
        bool quoted = false;
        for (const char c : line) {
            quoted ^= c == '"';
            if (c == '#' && !quoted)
                break;
            text += c;
        }
        text += '\n';
    }
    return text;
}

// The value of `name = [ "...", ... ]` or `name = "..."`; the last one in the file counts.
std::optional<Patterns> setting(const std::string& text, const std::string& name) {
    const std::regex assignment("(^|[^A-Za-z0-9_])" + name + "\\s*=\\s*(\\[[^\\]]*\\]|\"[^\"]*\")");
    const std::regex quoted("\"([^\"]*)\"");
    std::optional<Patterns> found;
    for (std::sregex_iterator a(text.begin(), text.end(), assignment), end; a != end; ++a) {
        const std::string value = (*a)[2];
        found.emplace();
        for (std::sregex_iterator q(value.begin(), value.end(), quoted); q != end; ++q)
            found->push_back((*q)[1]);
    }
    return found;
}

// As LVM reads it: the first pattern that matches decides; what none matches is accepted.
bool rejects(const Patterns& patterns, const std::string& name) {
    for (const auto& pattern : patterns) {
        if (pattern.size() < 3 || (pattern[0] != 'a' && pattern[0] != 'r'))
            continue;
        const auto end = pattern.rfind(pattern[1]);
        if (end <= 1)
            continue;
        try {
            const std::regex re(pattern.substr(2, end - 2), std::regex::extended);
            if (std::regex_search(name, re))
                return pattern[0] == 'r';
        } catch (const std::regex_error&) {
            continue; // what we cannot read rejects nothing
        }
    }
    return false;
}

} // namespace

bool lvm_rejects(const std::vector<std::string>& names, const std::vector<std::string>& files) {
    std::map<std::string, Patterns> filters;
    for (const auto& file : files) {
        const std::string text = text_without_comments(file);
        for (const char* name : {"filter", "global_filter"})
            if (auto value = setting(text, name))
                filters[name] = *value;
    }
    return std::any_of(filters.begin(), filters.end(), [&](const auto& filter) {
        return !names.empty() && std::all_of(names.begin(), names.end(), [&](const auto& name) {
            return rejects(filter.second, name);
        });
    });
}

std::string lvm_filter_line(const std::vector<std::string>& names) {
    std::string line = "global_filter = [ ";
    for (const auto& name : names) {
        std::string escaped;
        for (const char c : name) {
            if (std::string(".+*?()[]{}^$\\").find(c) != std::string::npos)
                escaped += '\\';
            escaped += c;
        }
        line += "\"r|^" + escaped + "$|\", ";
    }
    return line + "\"a|.*|\" ]";
}

std::vector<std::string> names_of_device(const std::string& path) {
    std::vector<std::string> names{path};
    std::error_code none;
    for (const char* top : {"/dev/disk", "/dev/mapper"})
        for (const auto& entry : fs::recursive_directory_iterator(
                 top, fs::directory_options::skip_permission_denied, none))
            if (entry.is_symlink(none) && fs::canonical(entry.path(), none) == path)
                names.push_back(entry.path());
    return names;
}

} // namespace dek::kcm
