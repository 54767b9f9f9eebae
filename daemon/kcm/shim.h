// SPDX-License-Identifier: Apache-2.0
// The client of a shim's ioctl interface (dek/ioctl.h): the same for the kernel's and the userspace
// one.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <dek/ioctl.h>

#include "base/fd.h"
#include "base/result.h"
#include "volume/header.h"

namespace dek::kcm {

using volume::Uuid;

std::string key_id_of(const dek_association_entry& association);

// One way to the shim: the control file, or in tests an endpoint in the same process.
class ShimTransport {
  public:
    virtual ~ShimTransport() = default;
    virtual int connect() = 0;                                   // afresh; 0 or errno
    virtual int call(unsigned long request, void* argument) = 0; // 0 or errno; ENOTCONN: gone
    // Advice for whoever meets one that does not answer.
    virtual const char* hint() const { return fuse_hint; }
    static constexpr const char* fuse_hint = "is dek-shimd running? systemctl start dek-shimd";
    static constexpr const char* kernel_hint = "is dm-dek loaded? modprobe dm-dek";
};

// Each call connects when it has to, and once more when the shim has gone in between (a restarted
// one takes a moment): calls fail with Errc::unavailable when none answers within `patience`, and
// with Errc::timeout when there is one that stands still. A
// restarted shim has new endpoints: whoever needs several calls to mean the same life compares
// life(). Not thread-safe: each thread has its own.
class Shim {
  public:
    explicit Shim(std::unique_ptr<ShimTransport> transport,
                  std::chrono::milliseconds patience = std::chrono::seconds(5));

    Result<dek_ioc_version> version();
    Result<std::uint64_t> life();

    // One block, answered in place. Busy and EINTR are tried again with back-off for
    // `busy_patience`; what is still Busy then comes back as that status.
    Result<void> command(const Uuid& uuid, std::span<std::uint8_t, DEK_BLOCK_SIZE> block);
    // Replaces the must-encrypt map; ranges sorted, device LBAs; generation above the current one.
    Result<void> map(const Uuid& uuid, std::uint64_t generation,
                     const std::vector<dek_map_entry>& ranges);

    Result<std::vector<dek_list_entry>> list();
    Result<std::optional<dek_list_entry>> find(const Uuid& uuid);
    Result<std::vector<dek_range_entry>> ranges(const Uuid& uuid);
    Result<std::vector<dek_association_entry>> associations(const Uuid& uuid);
    Result<std::vector<dek_token_entry>> tokens(const Uuid& uuid);
    // Holds device LBAs; the token. What is under way has ended when it returns.
    Result<std::uint64_t> quiesce(const Uuid& uuid, dek_range range);
    Result<void> release(const Uuid& uuid, std::uint64_t token);
    // Ciphertext passes there from now on; inside the token's range.
    Result<void> yield(const Uuid& uuid, std::uint64_t token, dek_range range);
    // What a fence answers from now on: to what waits, too.
    Result<void> fence(const Uuid& uuid, std::uint32_t answer); // enum dek_fence
    // One of DEK_ENGINE_*, or 0: off. Errc::busy: another than now, and an association is held;
    // Errc::unsupported: the endpoint cannot have it.
    Result<void> engine(const Uuid& uuid, std::uint32_t engine);
    Result<dek_ioc_stats> stats(const Uuid& uuid);

    Result<void> volume_create(const dek_ioc_volume& volume);
    Result<void> volume_remove(const Uuid& uuid);
    Result<void> volume_resize(const Uuid& uuid, std::uint64_t lbas);

    void busy_patience(std::chrono::milliseconds t) { busy_patience_ = t; }

  private:
    int connected();
    int call_once(unsigned long request, void* argument);
    int call_patiently(unsigned long request,
                       void* argument); // 0 or errno; ENOTCONN: nobody answers
    // `what` begins the sentence of a failure.
    Result<void> call(unsigned long request, void* argument, const std::string& what);
    tl::unexpected<Error> no_answer(const std::string& what, int error) const;
    Result<void> map_page(dek_ioc_map& page);

    std::unique_ptr<ShimTransport> transport_;
    std::chrono::milliseconds patience_;
    std::chrono::milliseconds busy_patience_{15000};
    bool connected_ = false;
    std::chrono::steady_clock::time_point gave_up_{}; // nobody waits again within a second of it
};

} // namespace dek::kcm
