// SPDX-License-Identifier: Apache-2.0
// What the legs beneath a volume do for it: encrypt, let the ciphertext of somebody above pass, or
// nothing any more. Each can be asked for from whatever state the legs are in, again and again.
#pragma once

#include "kcm/layers/tree.h"
#include "kcm/negotiate.h"
#include "kcm/volume.h"

namespace dek::kcm {

// Not thread-safe. The shim outlives it.
class Beneath {
  public:
    Beneath(Shim& shim, const volume::Header& header, std::shared_ptr<const Survey> survey)
        : shim_(&shim), header_(&header), survey_(std::move(survey)) {}

    // There are legs with LBAs of the volume.
    bool any() const { return survey_ && !survey_->decision.maps.empty(); }
    // Would all of it be encrypted? Handshake and Query, through the layers. Changes nothing.
    Result<void> query();
    // Maps first, then keys through the layers: afterwards every encrypted LBA is keyed or fenced
    // on every leg, and no longer yielded. What is right already stays untouched.
    Result<void> encrypt(const KeyFinder& find_key);
    // Nothing of the volume is keyed any more; it is yielded. I/O of the volume, and mirrors
    // beneath that copy by themselves, stand still meanwhile. Errc::busy while a leg holds requests
    // from before: they may be plaintext.
    Result<void> yield();
    // Nothing of it is keyed, fenced or yielded any more; on some legs it may stay fenced. What is
    // keyed beneath a mirror that copies by itself stays: Errc::busy.
    Result<void> leave(const std::function<bool(const Uuid& leg)>& stays_fenced = {});
    // LBAs of the volume on legs that let them pass in plain, though others encrypt: something has
    // moved them there, or copies them, without anybody having been asked. (Not those of a path
    // beside others that lead to the same.)
    Result<LunMap> strays();
    // Nothing passes there any more.
    Result<void> fence_strays();

  private:
    struct Leg {
        Uuid uuid{};
        LunMap map;
        std::string name;
        bool path = false; // of a multipath
    };
    std::vector<Leg> legs() const;
    Result<std::vector<Leg>> legs_there();
    Result<void> check_no_ciphertext_moves();
    Result<layers::Tree> tree();
    Result<bool> let_go(const Leg& leg); // true: something was keyed
    Result<LunMap> uncovered(const Leg& leg);
    Result<bool> lets_pass(const Leg& leg); // plain or yielded, all of it
    Result<void> check_nothing_waits(const Leg& leg);
    Result<void> fence_all(const std::vector<Leg>& legs);

    Shim* shim_;
    const volume::Header* header_;
    std::shared_ptr<const Survey> survey_;
};

} // namespace dek::kcm
