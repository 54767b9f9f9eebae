// SPDX-License-Identifier: Apache-2.0
// The controller's side of the DEK management protocol: handshake, query, associate, and the whole
// of it until an endpoint does what a volume's header says.
#pragma once

#include <functional>

#include <dek/block.hpp>

#include "kcm/shim.h"

namespace dek::kcm {

// A conversation with one endpoint. Statuses other than Success come as errors, each with one
// sentence that names the range where it can; Errc::unavailable also when the endpoint began a new
// life in between.
class Negotiation {
  public:
    // Handshakes; the endpoint answers its ID, or there is none of class EHBA under this UUID.
    static Result<Negotiation> begin(Shim& shim, const Uuid& uuid);
    std::uint64_t endpoint_id() const { return endpoint_id_; }

    // Can the endpoint encrypt every range (device LBAs), now? In blocks of 60.
    Result<void> query(const LunMap& map);
    // As few associations as the blocks' capacity allows; their handles, in the order of the
    // ranges. The key goes in the blob and is wiped from every buffer here. When one fails, those
    // before it stay.
    Result<std::vector<std::uint64_t>> associate(const LunMap& map, const std::string& key_id,
                                                 const Secret& key, const dek_geometry& geometry);
    Result<void> disassociate(std::uint64_t handle);
    // One block as it is, for the protocol by hand: what comes back, whatever its status.
    Result<CommandBlock> send(const CommandBlock& command);

  private:
    Negotiation(Shim& shim, const Uuid& uuid) : shim_(&shim), uuid_(uuid) {}
    Result<std::uint64_t> exchange(const CommandBlock& command, const std::string& what);
    Address address();

    Shim* shim_;
    Uuid uuid_;
    std::uint64_t endpoint_id_ = 0;
    std::uint64_t next_handle_ = 1;
};

// The key as the protocol carries it. `padded`: DEK_KEY_DATA_SIZE zeros, which take the key, and
// which the blob points into.
dek_blob blob_of(const Secret& key, Secret& padded);

using KeyFinder = std::function<Result<Secret>(const volume::HeaderKey&)>;

// Makes the endpoint do what the header says, from whatever state it is in: the must-encrypt map,
// then an association for every encrypted range; ones that do not fit the header are taken away
// first. Asks for a key only when something is missing. What is right already stays untouched, so
// I/O on it goes on.
Result<void> establish(Shim& shim, const volume::Header& header, const KeyFinder& find_key);

// True when every encrypted range of the header is keyed with the right key ID and geometry.
Result<bool> is_established(Shim& shim, const volume::Header& header);

} // namespace dek::kcm
