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

const std::string numbered = "/dev/disk/by-diskseq/"; // another number after the next boot

// A link by what is on the disk goes over to the volume as soon as that is attached.
bool names_contents(const std::string& name) {
    for (const char* part : {"/by-uuid/", "/by-label/", "/by-partuuid/", "/by-partlabel/",
                             "/lvm-pv-uuid-", "/md-uuid-", "/md-name-"})
        if (name.find(part) != std::string::npos)
            return true;
    return false;
}

// As LVM reads it: the first pattern that matches decides. None: no pattern does.
std::optional<bool> accepts(const Patterns& patterns, const std::string& name) {
    for (const auto& pattern : patterns) {
        if (pattern.size() < 3 || (pattern[0] != 'a' && pattern[0] != 'r'))
            continue;
        const auto end = pattern.rfind(pattern[1]);
        if (end <= 1)
            continue;
        try {
            const std::regex re(pattern.substr(2, end - 2), std::regex::extended);
            if (std::regex_search(name, re))
                return pattern[0] == 'a';
        } catch (const std::regex_error&) {
            continue; // what we cannot read rejects nothing
        }
    }
    return std::nullopt;
}

// Again as LVM does it: one accepted name is enough to be used, one rejected else not to be.
bool rejects(const Patterns& patterns, const std::vector<std::string>& names) {
    bool rejected = false;
    for (const auto& name : names) {
        if (names_contents(name))
            continue;
        const auto accepted =
            accepts(patterns, name.rfind(numbered, 0) == 0 ? numbered + "0" : name);
        if (accepted == true)
            return false;
        rejected = rejected || accepted == false;
    }
    return rejected;
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
    return std::any_of(filters.begin(), filters.end(),
                       [&](const auto& filter) { return rejects(filter.second, names); });
}

// By its lasting names where it has some: /dev/sdb may be another disk tomorrow.
std::string lvm_filter_line(const std::vector<std::string>& names) {
    const std::string lasting = "/dev/disk/by-id/";
    const bool has_lasting = std::any_of(names.begin(), names.end(), [&](const auto& name) {
        return name.rfind(lasting, 0) == 0 && !names_contents(name);
    });
    std::string line;
    for (const auto& name : names) {
        if (name.rfind(has_lasting ? lasting : "/dev/", 0) != 0 || name.rfind(numbered, 0) == 0 ||
            names_contents(name))
            continue;
        std::string escaped;
        for (const char c : name) {
            if (std::string(".+*?()[]{}^$\\").find(c) != std::string::npos)
                escaped += '\\';
            escaped += c;
        }
        line += (line.empty() ? "\"r|^" : ", \"r|^") + escaped + "$|\"";
    }
    return "global_filter = [ " + line + " ]"; // what nothing matches LVM accepts
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
