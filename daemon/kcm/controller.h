// SPDX-License-Identifier: Apache-2.0
// The registry of volumes and the operations on them.
#pragma once

#include <functional>
#include <set>

#include <nlohmann/json_fwd.hpp>

#include "kcm/device_use.h"
#include "kcm/guard.h"
#include "kcm/header_site.h"
#include "kcm/key_service.h"
#include "kcm/keystore_seat.h"
#include "kcm/legs.h"
#include "kcm/negotiate.h"
#include "kcm/options.h"
#include "kcm/record.h"
#include "kcm/shims.h"
#include "kcm/undo.h"

namespace dek::kcm {

// Says what happened; called from the operations thread.
using EventSink = std::function<void(nlohmann::json)>;

struct ControllerParts {
    Options options;
    std::shared_ptr<KeystoreSeat> seat;
    std::shared_ptr<KeyService> keys;
    std::shared_ptr<Registry> registry;
    Shims shims;
    EventSink event;
    KernelView kernel = {};
    std::vector<std::string> lvm_files = {"/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"};
};

struct EncryptRequest {
    std::string ranges; // as on the command line
    std::string key;    // ID or name; empty: the volume's
};

struct ProtectRequest {
    std::string device;
    std::string name;
    std::vector<EncryptRequest> encrypt; // empty: all
    std::string key;                     // ID or name; empty: one is made if a range needs it
    std::optional<std::uint32_t> data_unit;
    volume::TweakRule tweak = volume::TweakRule::unit;
    bool in_place = false;
    HeaderQuery header;
    bool force = false;
    ShimChoice shim = ShimChoice::automatic;
    std::string endpoint = "prefer";
};

struct AttachRequest {
    std::string device;
    HeaderQuery header;
    bool force = false;
    ShimChoice shim = ShimChoice::automatic;
    std::string name; // empty: the header's
};

struct EraseRequest {
    std::string device;
    HeaderQuery header;
    bool force = false;
    bool destroy_keys = false;
};

struct Erased {
    std::optional<Uuid> uuid; // none: the header could not be read
    HeaderSite site;
    std::vector<std::string> keys_destroyed;
    std::vector<std::string> keys_kept; // not made for this volume: others may need them
};

class Beneath;

// All members are called from the operations thread; what others may see is in the registry. A call
// that fails has changed nothing, unless its sentence says otherwise.
class Controller {
  public:
    explicit Controller(ControllerParts parts);

    Result<VolumePtr> protect(const ProtectRequest& request);
    Result<VolumePtr> attach(const AttachRequest& request);
    Result<void> detach(const std::string& name, std::chrono::milliseconds patience);
    Result<Erased> erase(const EraseRequest& request);
    // Nobody may have the block device open while it shrinks, unless force.
    Result<VolumePtr> resize(const std::string& name, std::optional<std::uint64_t> lbas,
                             bool force = false);
    // "endpoint", "software" or "auto". Live: I/O waits for a moment.
    Result<VolumePtr> switch_to(const std::string& name, const std::string& where);
    // Looks at what lies beneath the volumes and does what follows: other layers encrypt, new paths
    // get keys. True: something has to wait and wants another call.
    bool review();
    Result<volume::Copy> header_restore(const std::string& device, const HeaderQuery& query,
                                        const volume::Copy& backup, bool force);

    // Once, at the start: volumes of the runtime records, before anything is known of them.
    void load_records();
    // Brings what the shim serves, the records, the headers and the block devices together; after
    // the start, when the shim has come back, and when keys may be had again. True: something has
    // to wait and wants another call.
    bool resync();
    void shim_gone(const std::string& kind);
    // The states of keys have changed.
    void refresh_keys();
    // Errc::busy: a volume here uses the key, or one whose keys nobody knows may.
    Result<void> check_key_free(const std::string& id) const;

    const Shims& shims() const { return parts_.shims; }
    const ControllerParts& parts() const { return parts_; }
    Legs& legs() { return legs_; }
    // When review() wants to be called though nothing has changed.
    std::optional<std::chrono::milliseconds> next_look() const { return guard_.pause(); }

  private:
    struct Plan;
    using KeyRing = std::map<std::string, Secret>; // by ID

    // protect.cpp, protect_checks.cpp
    Result<Plan> plan_protect(const ProtectRequest& request);
    Result<void> plan_layout(const ProtectRequest& request, Plan& plan);
    Result<void> plan_ranges(const ProtectRequest& request, Plan& plan);
    Result<void> plan_key(const std::string& key, Plan& plan, std::uint16_t& index);
    Result<void> check_target(const ProtectRequest& request, Plan& plan);
    Result<void> check_contents(const ProtectRequest& request, const Plan& plan);
    Result<void> check_physical_volume(const Plan& plan);
    Result<void> make_key(Plan& plan);
    Result<void> carry_out(const ProtectRequest& request, Plan& plan, Undo& undo,
                           std::string& stays);
    Result<VolumePtr> make_volume(const ProtectRequest& request, Plan& plan);

    // attach.cpp
    Result<Volume> examine(const AttachRequest& request, const Device& device, KeyRing& ring);
    Result<void> check_sequence(const volume::Header& header, bool force);
    Result<void> remember_sequence(const volume::Header& header);
    Result<volume::Header> authenticated(const SitedHeader& sited);
    // The header of volume `uuid` as it is there now: authenticated, and no older than one seen.
    Result<volume::Header> read_current(const Device& device, const HeaderQuery& query,
                                        const Uuid& uuid);
    Result<void> check_name_free(const std::string& name);
    // Which one it is to be: its kind.
    Result<std::string> choose_shim(ShimChoice choice, const std::string& endpoint_policy);
    Result<void> check_unserved(const Volume& volume);
    // `claim` is let go of when the shim is to open the device.
    Result<void> bring_up(Volume& volume, const KeyFinder& keys, bool force, Fd claim);
    Result<void> check_swap_or_root(const Volume& volume);
    Result<void> link(const Volume& volume);
    void unlink(const std::string& name);
    std::vector<keys::KeyInfo> key_infos(const volume::Header& header);

    // serve.cpp
    layers::TopTarget top_target(const Volume& volume, const LunMap& map);
    Result<std::shared_ptr<const Survey>> look(const Volume& volume);
    void discount_loans(layers::Stack& stack);
    // Obstacle: why a target on top has failed, if it has.
    std::shared_ptr<const Survey> judge(const Volume& volume, layers::Stack stack,
                                        const std::string& top_obstacle = {});
    Result<void> put_in_service(Volume& volume, const KeyFinder& keys, Undo& undo);
    Result<void> resize_lines(const Volume& volume, std::uint64_t lbas);
    KeyFinder key_finder();
    Result<KeyRing> keys_of(const volume::Header& header);
    Result<void> leave_lost_legs(const Volume& volume, const std::shared_ptr<const Survey>& old);
    void keep_guard();

    // switch.cpp
    class Switch;
    std::vector<std::pair<VolumePtr, KeyRing>> rings_of_others(const Volume& volume,
                                                               const std::set<std::string>& legs);
    Result<void> take_over(Volume& volume, std::shared_ptr<const Survey> survey);
    Result<void> check_strays(Volume& volume, Beneath& legs);
    Result<void> refresh_legs(Volume& volume, std::shared_ptr<const Survey> survey,
                              bool grown = false);

    // review.cpp
    struct Review { // of a volume that is not where it ought to be
        layers::Encryptor to = layers::Encryptor::nobody;
        std::chrono::milliseconds wait{0};
        std::chrono::steady_clock::time_point quiet{};
        std::shared_ptr<const Survey> failed; // what was tried last, when, and the pause after it
        std::chrono::steady_clock::time_point tried{};
        std::chrono::milliseconds pause{0};
    };
    void write_record(const Volume& volume);
    bool is_too_early(const Volume& volume, const layers::Stack& stack);
    bool may_switch_now(const Volume& volume, layers::Encryptor to);
    bool review_volume(const VolumePtr& volume);
    void settle_engines();

    // detach.cpp
    Result<void> check_legs_known(const Volume& volume);
    Result<bool> is_served(const Volume& volume);
    Result<void> check_detached(const Device& device, const std::optional<Uuid>& uuid);
    Result<void> take_down(const Volume& volume);
    Result<void> clear_away(const Volume& volume);
    Result<void> leave_legs(const Volume& volume);
    void forget(const Volume& volume);
    void keep_attached(const Volume& volume);
    Result<std::vector<std::string>> keys_of_its_own(const SitedHeader& sited,
                                                     std::vector<std::string>& kept);
    Result<void> destroy_keys(const std::vector<std::string>& ids, Erased& erased);

    // resize.cpp
    Result<void> plan_resize(const Volume& volume, const Device& device,
                             std::optional<std::uint64_t> lbas, volume::Header& next);
    Result<Fd> keep_closed(const Volume& volume, const volume::Header& next, bool force);
    Result<void> write_header(const Volume& volume, const Device& device,
                              const volume::Header& next);
    Result<void> catch_up(Volume& volume, const Device& device);
    Result<void> take_size(Volume& volume, const Device& device, const volume::Header& next);
    Result<void> follow_header(Volume& volume);
    Result<void> settle_size(Volume& volume);

    // header_restore.cpp
    Result<void> restore_into(const Device& device, const HeaderQuery& query,
                              const volume::Copy& backup, const Secret& key, bool force);

    // resync.cpp
    bool resync_volume(const Record& record, const std::vector<dek_list_entry>& endpoints);
    Result<Device> device_of(const Record& record);
    Result<void> read_again(Volume& volume, const Record& record);
    void describe(Volume& volume, const Record& record, const dek_list_entry& endpoint);
    Result<void> restore_service(Volume& volume, const dek_list_entry& endpoint);
    void revive(const Volume& volume, const dek_list_entry& endpoint);
    Result<std::shared_ptr<const Survey>> find_legs(Volume& volume, const Record& record);
    Result<void> yield_legs(Volume& volume, const Record& record);
    bool release_legs(Shim& shim);
    bool resync_lines(const Record& record);
    Result<void> resume_lines(Volume& volume, bool grown = false);
    bool settle_record(Volume volume, const Record& record, const Result<void>& done);
    void settle_node(Volume& volume, const Record& record);
    bool resync_site(const ShimSite& at, std::vector<Record> records);
    Result<Record> record_of_stranger(const ShimSite& at, const dek_list_entry& endpoint);
    void release_tokens(const Volume& volume);
    Result<bool> legs_have_keys(const Record& record);
    Result<void> remove_half_made(Volume volume, const Record& record);
    bool lost(const Record& record);

    const ShimSite& site(const Volume& volume) const { return parts_.shims.of(volume.shim); }
    std::string link_path(const std::string& name) const {
        return parts_.options.dev_dir + "/" + name;
    }
    void tell(const std::string& event, const Volume& volume);

    ControllerParts parts_;
    Records records_;
    Legs legs_;
    Guard guard_;
    std::map<Uuid, Review> reviews_;
    std::set<std::string> lent_; // legs, by UUID, that have another engine than their own
};

} // namespace dek::kcm
