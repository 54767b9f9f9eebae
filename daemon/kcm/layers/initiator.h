// SPDX-License-Identifier: Apache-2.0
// The controller's side of a conversation with a stack of layers: what the document's key
// controller sends to the topmost one.
#pragma once

#include <dek/block.hpp>

#include "kcm/layers/tree.h"

namespace dek::kcm::layers {

// What goes into an association, but for its map.
struct Keying {
    std::string key_id;
    const dek_blob* blob = nullptr; // the caller's; nullptr: by the ID alone
    dek_geometry geometry{};
};

// One association of the topmost device.
struct Held {
    std::uint64_t handle = 0;
    LunMap map;
};

// Errors say what the layers remarked, naming layer and device. Not thread-safe, like its tree,
// which outlives it.
class Initiator {
  public:
    explicit Initiator(Tree& tree, std::string class_name = DEK_CLASS_EHBA)
        : tree_(&tree), class_name_(std::move(class_name)) {}

    // First of all. Errc::unsupported: nobody of the class is beneath.
    Result<void> handshake();
    std::uint32_t version() const { return version_; }
    // LBAs of the topmost device.
    Result<void> query(const LunMap& map);
    // All of the map, in as many associations as its blocks make, or none of it. What cannot be
    // taken back is, before anything new is associated.
    Result<std::vector<Held>> associate(const LunMap& map, const Keying& keying);
    // For those beneath that are new, or lost it.
    Result<void> refresh(const Held& held, const Keying& keying);
    // Map, key or both. When it fails, `held` is what it was, refreshed with `old`; where that
    // fails, too, the error says so, and what is missing is fenced until a refresh succeeds.
    Result<void> update(Held& held, const LunMap& map, const Keying& old, const Keying& next);
    Result<void> disassociate(const Held& held);

  private:
    Result<std::uint64_t> exchange(CommandBlock::Built command, const std::string& what);
    Result<void> clear_leftovers();
    Address address() { return {endpoint_id_, ++controller_handle_}; }

    Tree* tree_;
    std::string class_name_;
    std::uint64_t endpoint_id_ = 0;
    std::uint64_t controller_handle_ = 0;
    std::uint32_t version_ = 0;
    std::vector<Held> leftovers_; // of an associate() that failed
};

} // namespace dek::kcm::layers
