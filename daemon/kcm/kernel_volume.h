// SPDX-License-Identifier: Apache-2.0
// Volumes of the kernel shim: a device-mapper device with one `dek` target. Until it is exposed it
// has a name of its own, and udev keeps everybody off it.
#pragma once

#include "kcm/backend.h"
#include "kcm/dm_device.h"

namespace dek::kcm {

// The volume's device, and a new table for it by spec.lines, which waits for the next resume.
Result<DmInfo> find_volume_device(const NodeSpec& spec);
Result<void> load_volume_table(const NodeSpec& spec);

class KernelVolumes : public Backend {
  public:
    const char* kind() const override { return "kernel"; }
    // A regular file gets a loop device beneath, which goes with the mapped device.
    Result<void> create(Shim& shim, const NodeSpec& spec) override;
    Result<Fd> open(const NodeSpec& spec) override;
    Result<std::string> expose(const NodeSpec& spec) override;
    std::optional<std::string> exposed(const NodeSpec& spec) override;
    Result<void> conceal(const NodeSpec& spec, std::chrono::milliseconds patience) override;
    Result<void> remove(Shim& shim, const NodeSpec& spec,
                        std::chrono::milliseconds patience) override;
    Result<Fd> seize(const NodeSpec& spec, std::chrono::milliseconds patience) override;
    Result<void> resize(Shim& shim, const NodeSpec& spec, std::uint64_t lbas) override;
    // The table brought it.
    Result<void> rescale(const NodeSpec&) override { return {}; }
    Result<void> revive(const NodeSpec& spec, std::uint64_t lbas) override;
    Origin origin(const dek_list_entry& endpoint) const override;
};

} // namespace dek::kcm
