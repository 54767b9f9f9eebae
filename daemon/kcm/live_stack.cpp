// SPDX-License-Identifier: Apache-2.0
#include "kcm/live_stack.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <sys/stat.h>

#include "kcm/device.h"
#include "kcm/layers/target.h"

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;
using layers::BlockDevice;

// Device-mapper's UUIDs of volumes begin so; those of legs do not.
constexpr std::string_view volume_prefix = "DEK-";

// The first line; empty: there is no such file, or nothing in it.
std::string first_line(const fs::path& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

bool read_number(const fs::path& path, std::uint64_t& out) {
    return layers::parse_number(first_line(path), out);
}

tl::unexpected<Error> went_away(const std::string& number) {
    return fail(Errc::unavailable,
                "block device " + number + " went away while its stack was looked at");
}

// What device-mapper no longer knows has gone since.
Error as_gone(Error error) {
    if (error.code == Errc::not_found)
        error.code = Errc::unavailable;
    return error;
}

// One walk from the top down.
class Walk {
  public:
    // patient: what is not there, though a table names it, has gone for good.
    Walk(const LiveKernel& kernel, bool patient) : kernel_(kernel), patient_(patient) {}

    Result<layers::Description> from(const std::string& top) {
        need(top, 0);
        for (; !waiting_.empty(); waiting_.pop_front())
            if (auto r = look(waiting_.front(), waiting_.front() == top); !r)
                return tl::unexpected(r.error());
        for (const auto& number : gone_)
            found_.devices.push_back(gone_leaf(number));
        return std::move(found_);
    }

  private:
    // It has to be looked at, and something above uses it up to this LBA.
    void need(const std::string& number, std::uint64_t end) {
        const auto [at, fresh] = needed_.try_emplace(number, end);
        at->second = std::max(at->second, end);
        if (fresh)
            waiting_.push_back(number);
    }

    // A table may hold what has been unplugged for as long as it likes.
    BlockDevice gone_leaf(const std::string& number) const {
        BlockDevice d;
        d.number = number;
        d.name = number + " (gone)";
        d.size = needed_.at(number);
        d.opaque = "has gone, and a table still names it";
        return d;
    }

    Result<void> look(const std::string& number, bool top) {
        if (needed_.size() > layers::max_devices)
            return fail(Errc::corrupt, "more devices lie beneath than are looked through");
        std::error_code none;
        const fs::path folder = fs::canonical(kernel_.sys + "/dev/block/" + number, none);
        BlockDevice d;
        d.number = number;
        if (none || !read_number(folder / "size", d.size)) {
            if (top || !patient_)
                return went_away(number);
            gone_.push_back(number);
            return {};
        }
        d.read_only = first_line(folder / "ro") == "1";
        d.name = "/dev/" + folder.filename().string();
        std::replace(d.name.begin() + 5, d.name.end(), '!', '/');
        // By its name: one that is coming has no folder dm for a moment.
        const bool mapped = folder.filename().string().rfind("dm-", 0) == 0;
        auto read = mapped ? read_mapped(folder, d) : read_partition(folder, d);
        if (read)
            found_.devices.push_back(std::move(d));
        return read;
    }

    Result<void> read_partition(const fs::path& folder, BlockDevice& d) {
        std::error_code none;
        if (!fs::exists(folder / "partition", none))
            return {};
        BlockDevice::Partition partition;
        partition.parent = first_line(folder.parent_path() / "dev");
        if (partition.parent.empty() || !read_number(folder / "start", partition.first))
            return went_away(d.number);
        need(partition.parent, partition.first + d.size);
        d.partition = std::move(partition);
        return {};
    }

    Result<void> read_mapped(const fs::path& folder, BlockDevice& d) {
        const std::string name = first_line(folder / "dm/name");
        if (name.empty())
            return went_away(d.number);
        d.name = "/dev/mapper/" + name;
        if (first_line(folder / "dm/uuid").rfind(volume_prefix, 0) == 0) {
            d.opaque = "is a volume of its own";
            return {};
        }
        auto table = kernel_.table(name);
        if (!table)
            return tl::unexpected(as_gone(table.error()));
        if (table->empty())
            return fail(Errc::unavailable, "device " + d.name + " has no live table");
        auto beneath = kernel_.beneath(name);
        if (!beneath)
            return tl::unexpected(as_gone(beneath.error()));
        for (const auto number : *beneath)
            d.depends.push_back(number_text(number));
        d.table = std::move(*table);
        need_legs(d);
        return read_paths(name, d);
    }

    // What cannot be read is build_stack()'s to refuse.
    void need_legs(const BlockDevice& d) {
        for (const auto& line : d.table) {
            const auto target = layers::parse_target(line);
            if (!target || target->kind == layers::Kind::endpoint)
                continue;
            for (const auto& leg : target->legs)
                if (std::find(d.depends.begin(), d.depends.end(), leg.number) != d.depends.end())
                    need(leg.number, leg.offset + line.count);
        }
    }

    Result<void> read_paths(const std::string& name, BlockDevice& d) {
        const bool mirrors =
            std::any_of(d.table.begin(), d.table.end(), [](const layers::TableLine& line) {
                return line.type == "mirror" || line.type == "raid";
            });
        if (mirrors) {
            auto status = kernel_.status(name);
            if (!status)
                return tl::unexpected(as_gone(status.error()));
            d.status = std::move(*status);
        }
        if (d.table.front().type != "multipath")
            return {};
        auto status = kernel_.status(name);
        if (!status)
            return tl::unexpected(as_gone(status.error()));
        if (status->empty() || status->front().parameters.empty())
            return fail(Errc::unavailable,
                        "multipath " + d.name + " does not say how its paths are");
        d.path_status = std::move(status->front().parameters);
        return {};
    }

    const LiveKernel& kernel_;
    bool patient_;
    layers::Description found_;
    std::map<std::string, std::uint64_t> needed_; // numbers seen, and how far they are used
    std::deque<std::string> waiting_;
    std::vector<std::string> gone_;
};

bool has_endpoint(const layers::Description& description) {
    for (const auto& d : description.devices)
        for (const auto& line : d.table)
            if (line.type == "dek")
                return true;
    return false;
}

Result<void> add_endpoints(layers::Description& description, Shim& shim) {
    if (!has_endpoint(description))
        return {};
    auto list = shim.list();
    if (!list)
        return tl::unexpected(list.error());
    for (const auto& entry : *list) {
        Uuid uuid;
        std::memcpy(uuid.data(), entry.uuid, uuid.size());
        description.endpoints[volume::uuid_text(uuid)] = endpoint_facts(entry);
    }
    return {};
}

Result<layers::Stack> walk(const std::string& top, Shim& shim, const LiveKernel& kernel,
                           bool patient) {
    auto description = Walk(kernel, patient).from(top);
    if (!description)
        return tl::unexpected(description.error());
    if (auto r = add_endpoints(*description, shim); !r)
        return tl::unexpected(r.error());
    return layers::build_stack(*description, top);
}

Result<layers::Stack> file_stack(const std::string& path, std::uint64_t bytes) {
    layers::Description description;
    BlockDevice d;
    d.number = "file";
    d.name = path;
    d.size = bytes / 512;
    description.devices.push_back(d);
    return layers::build_stack(description, d.number);
}

} // namespace

layers::EndpointFacts endpoint_facts(const dek_list_entry& entry) {
    layers::EndpointFacts facts;
    facts.engines = entry.engine ? entry.engines : 0;
    if (entry.flags & DEK_ENDPOINT_FAILED)
        facts.ready = DEK_INVALID_HW_STATE;
    return facts;
}

Result<layers::Stack> discover(const std::string& node, Shim& shim, const LiveKernel& kernel) {
    struct stat found;
    if (::stat(node.c_str(), &found) != 0)
        return fail_errno(errno, node);
    if (S_ISREG(found.st_mode))
        return file_stack(node, static_cast<std::uint64_t>(found.st_size));
    if (!S_ISBLK(found.st_mode))
        return fail(Errc::invalid_argument, node + " is neither a block device nor a file");
    return discover(found.st_rdev, shim, kernel);
}

Result<layers::Stack> discover(dev_t number, Shim& shim, const LiveKernel& kernel) {
    const auto top = number_text(number);
    auto stack = walk(top, shim, kernel, false);
    if (stack)
        return stack;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return walk(top, shim, kernel, true);
}

} // namespace dek::kcm
