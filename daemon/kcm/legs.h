// SPDX-License-Identifier: Apache-2.0
// Endpoints beneath other devices: made, kept as the host's configuration says, removed.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "kcm/device_use.h"
#include "kcm/dm_device.h"
#include "kcm/leg_device.h"
#include "kcm/leg_files.h"
#include "kcm/multipath_checker.h"
#include "kcm/shim.h"
#include "kcm/undo.h"
#include "kcm/volume.h"

namespace dek::kcm {

struct LegRequest {
    std::vector<std::string> devices; // absolute paths; several: paths of one map
    std::string name;                 // empty: the device's own, as the kernel calls it
    std::optional<std::uint32_t> data_unit;
    std::optional<std::uint32_t> fence; // none: transport under a map, eio otherwise
    bool engine = true;
    bool force = false;    // over a volume's header
    std::string multipath; // the map, a new one or one that is there; empty: none
    bool queue_if_no_path = false;
    std::uint32_t group = 1;
};

struct LegsMade {
    std::vector<Leg> legs;
    std::optional<MultipathMap> map;
    std::vector<std::string> advice; // lines for LVM's and multipathd's configuration
};

struct LegParts {
    std::string state_dir;
    Shim* shim = nullptr;                                   // the kernel's
    std::function<VolumePtr(const std::string&)> volume_on; // by Device::identity(); or null
    KernelView kernel = {};
    std::vector<std::string> lvm_files = {};
};

// Operations thread only (libdevmapper).
class Legs {
  public:
    explicit Legs(LegParts parts);
    ~Legs();

    Result<LegsMade> create(const LegRequest& request);
    // A leg by its name or its device's path, or a map with all its legs by its name. Errc::busy
    // while something lies on it.
    Result<void> remove(const std::string& what);
    // As configured, whether they are there or not.
    std::vector<Leg> all() const { return configured(); }
    std::vector<MultipathMap> maps() const { return files_.maps(); }
    // Makes what the configuration says and is missing: at the start, and whenever block devices
    // have changed. What is right is left alone. A leg that joins a map gets the must-encrypt map
    // of those that are in it before it carries I/O. The first thing that did not work.
    Result<void> restore();

    // Paths are looked at every few seconds, failed and reinstated. `post` hands a job to the
    // operations thread; empty: stops it.
    void watch_paths(std::function<void(std::function<void()>)> post);

  private:
    std::vector<Leg> configured() const;
    void tell_once(const std::string& about, const std::string& sentence);
    void forget(const std::string& about) { told_.erase(about); }
    std::set<dev_t> taken() const;

    // leg_create.cpp
    struct Plan;
    Result<Plan> plan(const LegRequest& request);
    Result<void> plan_map(const LegRequest& request, Plan& plan);
    Result<void> plan_leg(const LegRequest& request, const std::string& path, Plan& plan);
    Result<void> check_paths(const Plan& plan);
    Result<Device> open_candidate(const LegRequest& request, const std::string& path);
    Result<std::uint32_t> unit_for(const LegRequest& request, const Device& device,
                                   const std::vector<Leg>& siblings) const;
    Result<void> carry_out(Plan& plan, Undo& undo);
    std::vector<std::string> advice_for(const Plan& plan) const;

    // leg_remove.cpp
    Result<void> remove_leg(const Leg& leg);
    Result<void> remove_path(const Leg& leg);
    Result<void> remove_map(const MultipathMap& map);
    Result<void> take_down(const Leg& leg);

    // legs.cpp
    Result<void> restore_leg(Leg leg);
    Result<void> replace_leg(Leg& leg, const DmInfo& info);
    Result<void> make_leg(const Leg& leg, dev_t device);
    Result<void> finish_leg(const Leg& leg, const DmInfo& info);
    Result<void> give_name(const Leg& leg, const std::string& current);
    void drop_orphans(std::vector<Leg>& legs);
    void drop_strangers();

    // multipath.cpp
    Result<void> restore_map(const MultipathMap& map);
    Result<std::vector<Path>> paths_of(const std::string& map) const;
    Result<std::vector<dek_map_entry>> inherited_map(const Leg& leg);
    void tend_paths();
    Result<void> tend_map(const MultipathMap& map);
    bool is_fenced(const Leg& leg);
    void publish_paths();

    LegParts parts_;
    LegFiles files_;
    std::map<std::string, std::string> told_;
    std::unique_ptr<PathChecker> checker_;
    std::shared_ptr<std::atomic<bool>> tending_ = std::make_shared<std::atomic<bool>>(false);
};

} // namespace dek::kcm
