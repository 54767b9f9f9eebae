// SPDX-License-Identifier: Apache-2.0
// One attached volume, and the registry in which all are published.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "kcm/backend.h"
#include "kcm/layers/decision.h"
#include "keys/provider.h"

namespace dek::kcm {

enum class VolumeState { up, waiting_for_keys, fenced, down };
const char* state_name(VolumeState state); // "up", "waiting-for-keys", "fenced", "down"

// What was found beneath a volume when somebody last looked, and what was decided about it.
struct Survey {
    layers::Stack stack;
    layers::Decision decision;
};

// Who the administrator wants to encrypt: what the header's policy leads to, or dm-crypt.
enum class Wish { automatic, software };
const char* wish_name(Wish wish); // "auto", "software"

// A value. Never a key in it.
struct Volume {
    volume::Header header;   // as verified; otherwise uuid and name, and the rest for people only
    bool verified = false;   // the header is authentic
    std::string name;        // of the volume here; the header's, unless attached under another
    std::string device;      // canonical path
    std::string identity;    // Device::identity()
    std::string header_file; // empty: on the device, at header.header_lba
    std::string shim;        // "fuse", "kernel"
    std::string block_device;
    bool read_only = false;
    // Who encrypts now: its own endpoint over the device (top), those beneath, or dm-crypt.
    layers::Encryptor encryptor = layers::Encryptor::top;
    Wish wish = Wish::automatic;
    bool strayed = false;                 // some of its data lies in the clear on a leg, fenced
    std::shared_ptr<const Survey> survey; // null: not looked yet, or on the userspace shim
    VolumeState state = VolumeState::down;
    std::string reason;                     // why it is not up, or what to know though it is
    std::vector<keys::KeyInfo> keys;        // in the order of header.keys
    std::vector<std::string> recorded_keys; // IDs, of the record; for as long as none is verified

    NodeSpec node() const;
    bool uses_key(const std::string& id) const;
    // Neither its record nor a verified header tells.
    bool keys_unknown() const { return !verified && recorded_keys.empty(); }
};

using VolumePtr = std::shared_ptr<const Volume>;

// What keeps data from being copied in the clear beneath volumes.
struct LegGuard {
    std::uint64_t lbas = 0; // guarded now
    std::string why;        // what else is to be known; goes on after the leg's name
};

// Thread-safe. The operations thread publishes; anybody reads.
class Registry {
  public:
    void publish(Volume volume); // replaces the one of this name
    void withdraw(const std::string& name);
    VolumePtr find(const std::string& name) const; // or null
    VolumePtr with_uuid(const Uuid& uuid) const;
    VolumePtr on_device(const std::string& identity) const;
    std::vector<VolumePtr> all() const;                              // by name
    std::vector<std::string> using_key(const std::string& id) const; // names
    void publish_guards(std::map<Uuid, LegGuard> guards);
    std::map<Uuid, LegGuard> guards() const; // of legs, by endpoint

  private:
    mutable std::mutex mutex_;
    std::map<Uuid, LegGuard> guards_;
    std::map<std::string, VolumePtr> volumes_;
};

} // namespace dek::kcm
