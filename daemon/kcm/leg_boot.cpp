// SPDX-License-Identifier: Apache-2.0
#include "kcm/leg_boot.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include <sys/stat.h>

#include "base/log.h"
#include "kcm/control_file.h"
#include "kcm/instance.h"
#include "kcm/legs.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::milliseconds shim_deadline{20000};

std::vector<std::string> names_from_udev(const std::string& node) {
    std::vector<std::string> names{node};
    const char* links = std::getenv("DEVLINKS");
    std::istringstream in(links ? links : "");
    for (std::string name; in >> name;)
        names.push_back(name);
    return names;
}

// The links are not there yet when udev asks.
bool is_for(const Leg& leg, const BlockFacts& facts, const std::vector<std::string>& names) {
    if (!leg.wwid.empty())
        return facts.wwid == leg.wwid && facts.lbas >= leg.lbas;
    return facts.wwid.empty() && facts.lbas == leg.lbas &&
           std::find(names.begin(), names.end(), leg.device) != names.end();
}

} // namespace

Result<void> make_endpoints(const Options& options) {
    const LegFiles files(options.state_dir);
    if (files.legs().empty())
        return {};
    if (auto made = make_directory(options.run_dir, 0755); !made)
        return made;
    const auto lock = lock_in(options.run_dir);
    if (!lock) {
        log(Level::notice, "endpoints-left-to-kcmd", {{"why", lock.error().reason}});
        return lock.error().code == Errc::busy ? Result<void>() : tl::unexpected(lock.error());
    }
    Shim shim(std::make_unique<ControlFile>(options.kernel_control, ControlFile::kernel_hint,
                                            shim_deadline));
    if (auto version = shim.version(); !version)
        return tl::unexpected(version.error());
    Legs legs({options.state_dir, &shim, [](const std::string&) { return VolumePtr(); }});
    (void)legs.restore(); // it has said what is missing; that may come later
    return {};
}

int tell_endpoint(const Options& options) {
    struct stat st;
    if (::stat(options.endpoint_of.c_str(), &st) != 0 || !S_ISBLK(st.st_mode))
        return 4;
    const auto facts = block_facts(st.st_rdev, "/sys");
    if (!facts || is_leg_uuid(facts->dm_uuid) || is_map_uuid(facts->dm_uuid))
        return 4;
    const auto names = names_from_udev(options.endpoint_of);
    for (const auto& leg : LegFiles(options.state_dir).legs())
        if (is_for(leg, *facts, names)) {
            std::printf("DEK_ENDPOINT=%s\n", leg.name.c_str());
            return 0;
        }
    return 4;
}

} // namespace dek::kcm
