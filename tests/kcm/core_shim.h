// SPDX-License-Identifier: Apache-2.0
// A shim in the test's own process: the real core behind the ioctl interface, without I/O, so that
// nothing ever has to drain. Volumes are endpoints over files; what a kernel or FUSE would add is
// left out.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <endpoint.h>

#include "kcm/backend.h"

namespace kcmtest {

using dek::kcm::Uuid;

class CoreShim {
  public:
    CoreShim();
    int call(unsigned long request, void* argument);

    // A new worker: every endpoint begins anew, unmapped and recovering; volumes stay.
    void restart();
    // The wait for keys of every endpoint is over.
    void recovered();
    // No shim at all: volumes are lost.
    void die() {
        up = false;
        volumes_.clear();
    }

    bool up = true;
    std::uint32_t engines = DEK_ENGINE_CPU;
    unsigned busy = 0;              // so many commands are answered Busy first
    unsigned associates_left = ~0u; // then No Memory
    unsigned yields_left = ~0u;     // then EIO
    unsigned waiting = 0;           // requests, as the statistics have them
    unsigned commands = 0;
    std::uint64_t quiesce(const Uuid& uuid, std::uint64_t first, std::uint64_t count);
    // Every key byte that was ever associated, in order: keys[i] for association i.
    std::vector<std::vector<std::uint8_t>> keys;

  private:
    struct Volume {
        dek_ioc_volume config;
        std::shared_ptr<dek_endpoint> endpoint;
    };
    struct Change;

    int command(dek_ioc_command& c);
    int list(dek_ioc_list& page);
    int ranges(dek_ioc_ranges& page);
    int associations(dek_ioc_associations& page);
    int tokens(dek_ioc_tokens& page);
    int create(const dek_ioc_volume& v);
    int version(dek_ioc_version& v) const;
    Volume* find(const __u8* uuid);
    std::shared_ptr<dek_endpoint> endpoint_of(const dek_ioc_volume& v, bool recovering);
    static int settle(dek_endpoint* ep, int error, dek_change& change, __u8* block);
    static dek_status on_key(void* self, dek_association* a);

    dek_engine_ops ops_{};
    std::mutex mutex_;
    std::map<Uuid, Volume> volumes_;
    std::uint64_t life_ = 1;
};

class CoreTransport : public dek::kcm::ShimTransport {
  public:
    explicit CoreTransport(std::shared_ptr<CoreShim> shim) : shim_(std::move(shim)) {}
    int connect() override { return shim_->up ? 0 : ENOENT; }
    int call(unsigned long request, void* argument) override {
        return shim_->call(request, argument);
    }

  private:
    std::shared_ptr<CoreShim> shim_;
};

// Volumes as endpoints; the block device is a file in `folder`.
class CoreBackend : public dek::kcm::Backend {
  public:
    explicit CoreBackend(std::string folder) : folder_(std::move(folder)) {}
    const char* kind() const override { return "fuse"; }
    dek::Result<void> create(dek::kcm::Shim& shim, const dek::kcm::NodeSpec& spec) override;
    dek::Result<dek::Fd> open(const dek::kcm::NodeSpec& spec) override;
    dek::Result<std::string> expose(const dek::kcm::NodeSpec& spec) override;
    std::optional<std::string> exposed(const dek::kcm::NodeSpec& spec) override;
    dek::Result<void> conceal(const dek::kcm::NodeSpec& spec,
                              std::chrono::milliseconds patience) override;
    dek::Result<void> remove(dek::kcm::Shim& shim, const dek::kcm::NodeSpec& spec,
                             std::chrono::milliseconds patience) override;
    dek::Result<dek::Fd> seize(const dek::kcm::NodeSpec& spec,
                               std::chrono::milliseconds patience) override;
    dek::Result<void> resize(dek::kcm::Shim& shim, const dek::kcm::NodeSpec& spec,
                             std::uint64_t lbas) override;
    dek::Result<void> rescale(const dek::kcm::NodeSpec&) override { return {}; }
    dek::Result<void> revive(const dek::kcm::NodeSpec&, std::uint64_t) override { return {}; }
    Origin origin(const dek_list_entry& endpoint) const override {
        return {endpoint.name, endpoint.device};
    }

    bool in_use = false; // somebody has the block device open
    bool expose_fails = false;
    bool answer_lost = false; // the endpoint is made, and the call sent again
    std::function<void()> before_conceal;
    std::function<dek::Result<void>()> before_create; // what happens to the device just then
    std::string shows;                                // what open() reads instead of the device

  private:
    std::string node_of(const dek::kcm::NodeSpec& spec) const {
        return folder_ + "/node-" + spec.name;
    }
    std::string folder_;
};

} // namespace kcmtest
