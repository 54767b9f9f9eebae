// SPDX-License-Identifier: Apache-2.0
// I/O to a whole endpoint waits.
#pragma once

#include "kcm/shim.h"

namespace dek::kcm {

// For as long as it lives. The one a killed controller has left behind is taken over.
class Hold {
  public:
    static Result<Hold> whole(Shim& shim, const Uuid& uuid);
    Hold(Hold&& other) noexcept : shim_(std::exchange(other.shim_, nullptr)) {
        uuid_ = other.uuid_;
        range_ = other.range_;
        token_ = other.token_;
    }
    Hold& operator=(Hold&&) = delete;
    ~Hold(); // a failure is logged: the endpoint lets go of the token when it is listed again

    std::uint64_t token() const { return token_; }

  private:
    Hold(Shim& shim, const Uuid& uuid, dek_range range)
        : shim_(&shim), uuid_(uuid), range_(range) {}

    Shim* shim_;
    Uuid uuid_;
    dek_range range_;
    std::uint64_t token_ = 0;
};

} // namespace dek::kcm
