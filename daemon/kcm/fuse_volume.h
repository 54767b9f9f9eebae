// SPDX-License-Identifier: Apache-2.0
// Volumes of the userspace shim: a file in its `volumes` folder and a loop device on it.
#pragma once

#include "kcm/backend.h"

namespace dek::kcm {

class FuseVolumes : public Backend {
  public:
    // shim_dir: dek-shimd's; recover: how long encrypted I/O waits for keys after it restarted.
    FuseVolumes(const std::string& shim_dir, std::chrono::milliseconds recover);

    const char* kind() const override { return "fuse"; }
    Result<void> create(Shim& shim, const NodeSpec& spec) override;
    Result<Fd> open(const NodeSpec& spec) override;
    Result<std::string> expose(const NodeSpec& spec) override;
    std::optional<std::string> exposed(const NodeSpec& spec) override;
    Result<void> conceal(const NodeSpec& spec, std::chrono::milliseconds patience) override;
    Result<void> remove(Shim& shim, const NodeSpec& spec,
                        std::chrono::milliseconds patience) override;
    Result<Fd> seize(const NodeSpec& spec, std::chrono::milliseconds patience) override;
    Result<void> resize(Shim& shim, const NodeSpec& spec, std::uint64_t lbas) override;
    Result<void> rescale(const NodeSpec& spec) override;
    // Its block device never stands still.
    Result<void> revive(const NodeSpec&, std::uint64_t) override { return {}; }
    Origin origin(const dek_list_entry& endpoint) const override;

  private:
    std::string file_of(const NodeSpec& spec) const { return shim_dir_ + "/volumes/" + spec.name; }

    std::string shim_dir_;
    std::chrono::milliseconds recover_;
};

} // namespace dek::kcm
