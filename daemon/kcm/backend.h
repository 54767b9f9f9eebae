// SPDX-License-Identifier: Apache-2.0
// What a shim's volumes become for the administrator: an endpoint first, then a block device. The
// seam between the controller and the kind of shim.
#pragma once

#include <chrono>
#include <functional>

#include "kcm/layers/table_line.h"
#include "kcm/shim.h"

namespace dek::kcm {

struct NodeSpec {
    Uuid uuid{};
    std::string name;
    std::string device;
    std::uint64_t offset = 0; // LBAs of the device
    std::uint64_t size = 0;   // LBAs
    std::uint32_t data_unit = 4096;
    std::uint32_t logical_block = 4096;
    bool read_only = false;
    // Kernel shim: what the device is made of over the device of that number, for so many LBAs.
    // None: of its own endpoint.
    using Lines = std::function<Result<std::vector<layers::TableLine>>(const std::string& beneath,
                                                                       std::uint64_t lbas)>;
    Lines lines;
};

// Called from the operations thread only.
class Backend {
  public:
    virtual ~Backend() = default;
    virtual const char* kind() const = 0; // "fuse", "kernel"
    // An unmapped endpoint: reads raw bytes, refuses writes.
    virtual Result<void> create(Shim& shim, const NodeSpec& spec) = 0;
    // Reads the volume through the endpoint, before anybody else can.
    virtual Result<Fd> open(const NodeSpec& spec) = 0;
    // The block device, made unless it is there already.
    virtual Result<std::string> expose(const NodeSpec& spec) = 0;
    // The block device expose() would give, if it is there.
    virtual std::optional<std::string> exposed(const NodeSpec& spec) = 0;
    // Takes the block device away. Errc::busy after `patience`, everything as before.
    virtual Result<void> conceal(const NodeSpec& spec, std::chrono::milliseconds patience) = 0;
    // Takes the endpoint away; fine when it is gone. Errc::busy after `patience`.
    virtual Result<void> remove(Shim& shim, const NodeSpec& spec,
                                std::chrono::milliseconds patience) = 0;
    // Keeps it from being mounted or held for as long as the descriptor lives. Errc::busy after
    // `patience` with who has it open.
    virtual Result<Fd> seize(const NodeSpec& spec, std::chrono::milliseconds patience) = 0;
    // The endpoint first when it grows; the block device takes over its size in rescale().
    virtual Result<void> resize(Shim& shim, const NodeSpec& spec, std::uint64_t lbas) = 0;
    virtual Result<void> rescale(const NodeSpec& spec) = 0;
    // After a restart: what was cut short while the block device stood still goes on. The endpoint
    // has `lbas`.
    virtual Result<void> revive(const NodeSpec& spec, std::uint64_t lbas) = 0;
    // Where an endpoint that nobody remembers comes from.
    struct Origin {
        std::string name; // empty: the header's
        std::string device;
    };
    virtual Origin origin(const dek_list_entry& endpoint) const = 0;
};

} // namespace dek::kcm
