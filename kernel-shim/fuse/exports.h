// SPDX-License-Identifier: Apache-2.0
// Volumes as files: made, taken over from an earlier worker, removed. What the dispatcher's calls
// mean for devices, mounts, lanes, the volume table and the holder.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "dispatcher.h"
#include "handover.h"
#include "lane.h"
#include "settings.h"
#include "table.h"

namespace dek::shim {

// Threading: the control thread's.
class Exports : public Host {
  public:
    // `holder`: the socket, this object's callers keep it open. `resend`: the kernel has it.
    // `orderly`: the last worker answered all it had taken.
    Exports(const Settings& settings, VolumeTable& table, int holder,
            std::vector<std::unique_ptr<Lane>>& lanes, bool resend, bool orderly)
        : settings_(settings), table_(table), holder_(holder), lanes_(lanes), resend_(resend),
          orderly_(orderly) {}

    // Takes away what no volume of the table stands for: mounts and files that a worker which was
    // killed half-way left behind, descriptors of unused slots.
    void sweep(std::vector<Message>& held);
    // A volume of the table in its new life. `fds`: the device's and FUSE's, or none. NULL: it
    // could not be, and is gone, with an error for whoever has it open.
    std::shared_ptr<Volume> revive(unsigned slot, std::vector<Fd> fds);

    int create(const dek_ioc_volume& config, std::shared_ptr<Volume>& out) override;
    int remove(Volume& volume) override;
    int check_length(const Volume& volume, std::uint64_t count) override;
    void resized(Volume& volume) override;
    void fence_changed(Volume& volume) override;
    void engine_changed(Volume& volume) override;
    void has_map(Volume& volume) override;
    void grace() override;
    void wake_waiting() override;
    bool under_way(const Volume& volume, std::uint64_t epoch, const dek_range& range) override;

  private:
    std::string path_of(const Volume& volume) const;
    int check(const dek_ioc_volume& config) const;
    int check_device(const dek_ioc_volume& config, const Backing& backing) const;
    int put_up(Volume& volume);
    bool keep(const Volume& volume);
    bool ask_holder(Word word, unsigned slot, const std::vector<int>& fds);
    bool attach(const std::shared_ptr<Volume>& volume);
    std::string resume(const std::shared_ptr<Volume>& volume, std::vector<Fd> fds);
    void take_down(unsigned slot, const std::string& name);
    Backing find_backing(const Slot& slot, std::vector<Fd>& fds);
    bool still_serves(const std::vector<Fd>& fuse, const std::string& path) const;

    const Settings& settings_;
    VolumeTable& table_;
    const int holder_;
    std::vector<std::unique_ptr<Lane>>& lanes_;
    const bool resend_;
    const bool orderly_;
};

} // namespace dek::shim
