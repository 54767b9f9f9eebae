// SPDX-License-Identifier: Apache-2.0
// Who encrypts (the document's Fig. 6), as a function of what there is: endpoints beneath, else a
// dek target on top, else dm-crypt. Pure: asks nobody anything.
#pragma once

#include <optional>

#include "kcm/layers/placement.h"

namespace dek::kcm::layers {

enum class Policy {
    prefer,        // any endpoint rather than dm-crypt
    hardware_only, // those with an inline or accel engine
    never,
};

enum class Encryptor {
    nobody, // nothing is to be encrypted
    endpoints,
    top, // a dek target over the topmost device
    software,
};

// A dek target over the topmost device, if the shim can make one.
struct TopTarget {
    std::uint32_t engines = 0; // DEK_ENGINE_*
    std::string obstacle;      // why it cannot after all
};

struct Question {
    LunMap encrypted;        // LBAs of the topmost device
    dek_geometry geometry{}; // of the volume there
    Policy policy = Policy::prefer;
    std::optional<TopTarget> top;
};

enum class Role {
    passes_on,  // a layer: what is above and beneath it may do as decided
    encrypts,   //
    fenced,     // carries a fence; I/O to encrypted ranges goes elsewhere
    idle,       // could encrypt, and need not
    in_the_way, // the reason why endpoints beneath do not encrypt
};

struct Finding {
    std::size_t device = 0;
    Role role = Role::passes_on;
    std::string why; // begins with the layer and the device
};

// What only some legs can do: reads of a mirror go to these alone.
struct Steering {
    std::size_t device = 0;
    std::vector<std::size_t> legs; // indexes in its legs
};

struct MustEncrypt {
    std::size_t device = 0; // a dek leg, capable or not
    LunMap map;             // of its LBAs, in whole data units
};

struct Decision {
    Encryptor who = Encryptor::software;
    std::string why;              // one sentence
    std::vector<Finding> account; // the devices that hold encrypted LBAs, topmost first
    std::vector<MustEncrypt>
        maps; // of every dek leg, also on failed paths; to be given before keys
    std::vector<Steering> steering; // for Encryptor::endpoints
};

// The stack is valid, and the map inside its topmost device.
Decision decide(const Stack& stack, const Question& question);

const char* role_text(Role role);          // "in-the-way"
const char* encryptor_text(Encryptor who); // "endpoints"

} // namespace dek::kcm::layers
