// SPDX-License-Identifier: Apache-2.0
// Nothing is copied in the clear beneath volumes that endpoints encrypt: on every leg that is a
// physical volume of LVM all LBAs that nobody is known to use for something innocent are fenced.
// I/O there waits until it is known what it is for.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "kcm/layers/usage.h"
#include "kcm/legs.h"

namespace dek::kcm {

// Operations thread only (libdevmapper).
class Guard {
  public:
    Guard(Legs& legs, std::shared_ptr<Registry> registry, Shim* shim)
        : legs_(&legs), registry_(std::move(registry)), shim_(shim) {}

    // Brings the guards of all legs up to date with what lies on them. `coming`: a volume that is
    // about to be, or another state of one that is there. Where it fails, legs that are not done
    // yet keep the guard they have.
    Result<void> keep(const Volume* coming = nullptr);
    // All of the block device is opened at once, for kcmd's own I/O. Errc::busy: something may be
    // copied there.
    Result<void> admit(const std::string& device);
    // LBAs of the leg are guarded.
    bool stands(const Uuid& leg) const;
    // When to look again though nothing has changed. None: then it need not be.
    std::optional<std::chrono::milliseconds> pause() const { return pause_; }

  private:
    using Clock = std::chrono::steady_clock;
    struct Claims {
        std::map<Uuid, LunMap> all, encrypted; // by leg: of all volumes, and what endpoints encrypt
        std::set<Uuid> unknown;                // legs that others may have LBAs on
        bool nothing_known = false;
        bool wanted = false;
    };
    struct Guarded {
        Leg leg;
        std::string number; // of its device
        std::uint32_t unit = 0;
        std::uint64_t lbas = 0;
        LunMap area;
        std::string why;      // it is none to be guarded, or nobody can tell
        LunMap keyed, closed; // now; closed: all that is not plain
    };

    Claims claims(const Volume* coming);
    void claim(const Volume& volume, Claims& claims);
    Result<void> keep(const Volume* coming, const std::map<Uuid, LunMap>& admitted);
    Result<void> open_up(const Claims& claims);
    Result<std::vector<Guarded>> guarded(const Claims& claims,
                                         const std::vector<layers::Mapped>& devices);
    Result<std::optional<Guarded>> look_at(const Leg& leg);
    void look_who_waits();
    LunMap opened(const Guarded& g, const layers::LegUse& use, const LunMap& admitted);
    Result<void> set(const Guarded& g, const layers::LegUse& use, const LunMap& claimed,
                     const LunMap& admitted);
    bool is_open(const Uuid& leg) const; // and known to be
    bool gives_up(const Guarded& g, const LunMap& held, const layers::LegUse& use);
    void publish();
    void wait(std::chrono::milliseconds pause);
    void tell(const Uuid& leg, const std::string& name, const std::string& sentence);

    Legs* legs_;
    std::shared_ptr<Registry> registry_;
    Shim* shim_;
    std::map<std::string, Clock::time_point> seen_;  // what uses legs, since when
    std::map<Uuid, Clock::time_point> copied_since_; // to LBAs that no volume has
    std::map<Uuid, LunMap> stand_;
    bool lvm_works_ = false;
    std::set<Uuid> waiting_;           // legs at which I/O waits
    std::map<Uuid, std::string> told_; // what is to be known of a leg
    std::optional<std::chrono::milliseconds> pause_;
};

} // namespace dek::kcm
