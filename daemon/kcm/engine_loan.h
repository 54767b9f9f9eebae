// SPDX-License-Identifier: Apache-2.0
// The CPU encrypts for a leg for a while: where its own engine has failed, or it has none. What
// waits in the leg goes on then, as the same ciphertext, and what lies above can be suspended.
#pragma once

#include <map>

#include "kcm/leg.h"
#include "kcm/shim.h"

namespace dek::kcm {

// Operations thread only. The shim outlives it.
class EngineLoans {
  public:
    explicit EngineLoans(Shim& shim) : shim_(&shim) {}

    // Nothing is keyed there any more, whosever it was, and I/O to what had a key waits for the
    // next one: where the fence would answer with an error it holds from now on. A leg that has the
    // CPU's engine already keeps its keys. If it fails, what has lost its key stays fenced.
    Result<void> lend(const Uuid& leg);
    // The legs lend() was called for, by their UUIDs' texts, those that had it already among them.
    bool has(const std::string& leg) const { return before_.contains(leg); }
    bool empty() const { return before_.empty(); }
    // Engines and fences as they were, of those where nothing is keyed, and nothing fenced. The
    // others are settle_engine()'s.
    void give_back();

  private:
    struct Before {
        std::uint32_t engine = 0, fence = 0;
        bool other = false, holds = false; // the engine was changed, and the fence
    };
    Result<void> take_keys(const Uuid& leg);

    Shim* shim_;
    std::map<std::string, Before> before_;
};

// The fence that a leg is configured with, where nothing is fenced: what waits is never failed by
// it.
Result<void> set_own_fence(Shim& shim, const Uuid& leg, std::uint32_t fence);

// The engine and the fence that a leg is configured with, where a loan has not come to its end:
// somebody was keyed there still, or the controller was killed. True: the CPU goes on encrypting in
// the place of another engine, as something is keyed there.
Result<bool> settle_engine(Shim& shim, const Leg& leg, const dek_list_entry& endpoint);

} // namespace dek::kcm
