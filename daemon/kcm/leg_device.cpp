// SPDX-License-Identifier: Apache-2.0
#include "kcm/leg_device.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t mib = 1 << 20;

// Without blanks around it; what is no plain text becomes '_'.
std::string attribute(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::string line;
    std::getline(in, line);
    line.resize(std::min<std::size_t>(line.size(), 512));
    for (char& c : line)
        if (c < ' ' || c > '~')
            c = '_';
    const auto first = line.find_first_not_of(' ');
    if (first == std::string::npos)
        return {};
    return line.substr(first, line.find_last_not_of(" _") + 1 - first);
}

std::uint64_t number_of(const std::string& text) {
    std::uint64_t n = 0;
    return layers::parse_number(text, n) ? n : 0;
}

// SCSI: device/wwid; NVMe: wwid; virtio: serial.
std::string whole_disk_wwid(const fs::path& directory) {
    for (const char* name : {"device/wwid", "wwid"})
        if (auto wwid = attribute(directory / name); !wwid.empty())
            return wwid;
    const auto serial = attribute(directory / "serial");
    return serial.empty() ? serial : "serial." + serial;
}

std::optional<BlockFacts> facts_in(const fs::path& directory) {
    std::error_code none;
    unsigned major = 0, minor = 0;
    if (std::sscanf(attribute(directory / "dev").c_str(), "%u:%u", &major, &minor) != 2)
        return std::nullopt;
    BlockFacts facts;
    facts.number = makedev(major, minor);
    facts.kernel_name = directory.filename();
    facts.lbas = number_of(attribute(directory / "size"));
    facts.dm_name = attribute(directory / "dm/name");
    facts.dm_uuid = attribute(directory / "dm/uuid");
    if (!facts.dm_uuid.empty()) {
        facts.wwid = "dm." + facts.dm_uuid;
    } else if (const auto part = attribute(directory / "partition"); !part.empty()) {
        const auto disk = whole_disk_wwid(directory.parent_path());
        facts.wwid = disk.empty() ? disk : disk + "-part" + part;
    } else {
        facts.wwid = whole_disk_wwid(directory);
    }
    return facts;
}

std::optional<dev_t> number_at(const std::string& path) {
    struct stat st;
    if (::stat(path.c_str(), &st) != 0 || !S_ISBLK(st.st_mode))
        return std::nullopt;
    return st.st_rdev;
}

// A disk that has grown is the same one; the leg keeps its size.
std::string difference(const Leg& leg, const BlockFacts& facts) {
    if (facts.wwid != leg.wwid)
        return "it is " + (facts.wwid.empty() ? "a nameless device" : facts.wwid) + ", not " +
               (leg.wwid.empty() ? "a nameless one" : leg.wwid);
    if (facts.lbas == leg.lbas || (facts.lbas > leg.lbas && !leg.wwid.empty()))
        return {};
    return "it has " + std::to_string(facts.lbas) + " LBAs, not " + std::to_string(leg.lbas);
}

std::vector<BlockFacts> all_with_wwid(const std::string& wwid, const std::string& sys) {
    std::vector<BlockFacts> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(fs::path(sys) / "class/block", none)) {
        const auto real = fs::canonical(entry.path(), none);
        auto facts = none ? std::nullopt : facts_in(real);
        if (facts && facts->wwid == wwid)
            found.push_back(std::move(*facts));
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a.number < b.number; });
    return found;
}

bool starts_with_any(const std::string& name, std::initializer_list<const char*> prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const char* prefix) { return name.rfind(prefix, 0) == 0; });
}

} // namespace

std::optional<BlockFacts> block_facts(dev_t number, const std::string& sys) {
    std::error_code none;
    const auto real = fs::canonical(fs::path(sys) / "dev/block" / number_text(number), none);
    return none ? std::nullopt : facts_in(real);
}

std::string lasting_name(const std::vector<std::string>& names, bool path_of_several) {
    const auto pick = [&](const char* prefix) {
        std::string least;
        for (const auto& name : names)
            if (name.rfind(prefix, 0) == 0 && (least.empty() || name < least))
                least = name;
        return least;
    };
    if (!path_of_several) // links by identity lead to one of the paths, whichever came last
        for (const char* prefix :
             {"/dev/disk/by-id/wwn-", "/dev/disk/by-id/nvme-eui.", "/dev/disk/by-id/nvme-uuid.",
              "/dev/disk/by-id/scsi-", "/dev/disk/by-id/nvme-", "/dev/disk/by-id/ata-",
              "/dev/disk/by-id/virtio-", "/dev/disk/by-id/usb-", "/dev/disk/by-id/dm-uuid-",
              "/dev/disk/by-id/md-uuid-"})
            if (auto name = pick(prefix); !name.empty())
                return name;
    for (const char* prefix : {"/dev/disk/by-path/", "/dev/mapper/"})
        if (auto name = pick(prefix); !name.empty())
            return name;
    return names.front();
}

Whereabouts locate(const Leg& leg, const std::set<dev_t>& taken, const std::string& sys) {
    Whereabouts w;
    const auto number = number_at(leg.device);
    if (number && !taken.count(*number)) {
        if (auto facts = block_facts(*number, sys)) {
            const auto why = difference(leg, *facts);
            if (why.empty())
                return {std::move(facts), ""};
            w.obstacle = leg.device + " is another device than before: " + why;
        }
    }
    if (leg.wwid.empty())
        return w;
    auto others = all_with_wwid(leg.wwid, sys);
    std::erase_if(others, [&](const BlockFacts& f) {
        return taken.count(f.number) || !difference(leg, f).empty();
    });
    if (others.empty())
        return w;
    if (others.size() > 1 && leg.multipath.empty())
        return {std::nullopt, leg.device + " is not there, and " + leg.wwid + " has " +
                                  std::to_string(others.size()) + " paths"};
    return {std::move(others.front()), ""};
}

Result<void> check_same_disk(const Device& a, const Device& b, const std::string& sys) {
    const auto refuse = [&](const std::string& why) {
        return fail(Errc::refused,
                    a.path + " and " + b.path + " are not paths to one disk: " + why);
    };
    const auto one = block_facts(a.number, sys), other = block_facts(b.number, sys);
    if (!one || !other)
        return fail(Errc::not_found, (one ? b : a).path + " has gone");
    if (a.lbas != b.lbas)
        return refuse("they have " + std::to_string(a.lbas) + " and " + std::to_string(b.lbas) +
                      " LBAs");
    if (one->wwid != other->wwid)
        return refuse("one is " + (one->wwid.empty() ? "nameless" : one->wwid) + ", the other " +
                      (other->wwid.empty() ? "nameless" : other->wwid));
    if (!one->wwid.empty())
        return {};
    const auto n = std::min<std::uint64_t>(mib, a.lbas * 512);
    for (const Device* device : {&a, &b}) // each path has a page cache of its own
        ::posix_fadvise(device->fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    auto left = read_bytes(a, 0, n), right = read_bytes(b, 0, n);
    if (!left || !right)
        return tl::unexpected((left ? right : left).error());
    if (*left != *right)
        return refuse("they do not say who they are, and their first MiB differs");
    if (std::all_of(left->begin(), left->end(), [](std::uint8_t byte) { return byte == 0; }))
        return refuse("they do not say who they are, and there is nothing in their first MiB to "
                      "tell it by");
    return {};
}

std::string multipath_wwid(const BlockFacts& facts) {
    if (starts_with_any(facts.kernel_name, {"nvme"}))
        return facts.wwid;
    const std::pair<const char*, const char*> kinds[] = {
        {"naa.", "3"}, {"eui.", "2"}, {"t10.", "1"}};
    for (const auto& [prefix, digit] : kinds)
        if (facts.wwid.rfind(prefix, 0) == 0) {
            std::string text = digit;
            for (const char c : facts.wwid.substr(4)) // runs of blanks are one underscore
                if (c != ' ' || text.back() != '_')
                    text += c == ' ' ? '_' : c;
            return text;
        }
    return {};
}

} // namespace dek::kcm
