// SPDX-License-Identifier: Apache-2.0
#include "kcm/leg_files.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>

#include <unistd.h>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/instance.h"

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t bytes_max = 65536;

std::string path_of(const std::string& directory, const std::string& name) {
    return directory + "/" + name + ".json";
}

std::string contents(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::string text(bytes_max + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return text;
}

void complain_once(const fs::path& path, const Error& error) {
    static std::mutex mutex;
    static std::set<std::string> told;
    const std::lock_guard lock(mutex);
    if (told.insert(path.string() + error.reason).second)
        log(Level::warning, "configuration-not-understood",
            {{"file", path.string()}, {"why", error.reason}});
}

template <class T>
std::vector<T> all_in(const std::string& directory,
                      Result<T> (*parse)(const std::string&, std::string_view)) {
    std::vector<T> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(directory, none)) {
        const auto& path = entry.path();
        if (path.extension() != ".json" || !entry.is_regular_file(none))
            continue;
        auto one = parse(path.stem(), contents(path));
        if (one)
            found.push_back(std::move(*one));
        else
            complain_once(path, one.error());
    }
    std::sort(found.begin(), found.end(), [](const T& a, const T& b) { return a.name < b.name; });
    return found;
}

// Left behind by a crash.
void clean(const std::string& directory) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(directory, none))
        if (entry.path().string().find(".json.new-") != std::string::npos)
            fs::remove(entry.path(), none);
}

std::span<const std::uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Result<void> create(const std::string& directory, const std::string& name,
                    const std::string& text) {
    if (auto made = make_directory(directory, 0700); !made)
        return made;
    if (auto synced = sync_directory_of(directory); !synced)
        return synced;
    clean(directory);
    return create_file_durably(path_of(directory, name), bytes_of(text), 0600);
}

Result<void> remove(const std::string& directory, const std::string& name) {
    const std::string path = path_of(directory, name);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, path + " cannot be removed");
    return sync_directory_of(path);
}

bool is_there(const std::string& directory, const std::string& name) {
    return ::access(path_of(directory, name).c_str(), F_OK) == 0;
}

} // namespace

std::vector<Leg> LegFiles::legs() const {
    return all_in(legs_, parse_leg);
}

std::vector<MultipathMap> LegFiles::maps() const {
    return all_in(maps_, parse_multipath_map);
}

bool LegFiles::has_leg(const std::string& name) const {
    return is_there(legs_, name);
}

bool LegFiles::has_map(const std::string& name) const {
    return is_there(maps_, name);
}

Result<void> LegFiles::add(const Leg& leg) const {
    return create(legs_, leg.name, to_text(leg));
}

Result<void> LegFiles::replace(const Leg& leg) const {
    return write_file_durably(path_of(legs_, leg.name), bytes_of(to_text(leg)), 0600);
}

Result<void> LegFiles::add(const MultipathMap& map) const {
    return create(maps_, map.name, to_text(map));
}

Result<void> LegFiles::remove_leg(const std::string& name) const {
    return remove(legs_, name);
}

Result<void> LegFiles::remove_map(const std::string& name) const {
    return remove(maps_, name);
}

} // namespace dek::kcm
