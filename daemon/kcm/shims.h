// SPDX-License-Identifier: Apache-2.0
// The shims of this host, the preferred one first: the kernel's and the userspace one. Both are
// listed whether they are there or not; one that is not answers Errc::unavailable.
#pragma once

#include "kcm/backend.h"

namespace dek::kcm {

struct ShimSite {
    std::string kind; // "kernel", "fuse"
    std::unique_ptr<Shim> shim;
    std::unique_ptr<Backend> backend; // none where only questions are asked
};

// Not thread-safe, as Shim: each thread has its own.
class Shims {
  public:
    explicit Shims(std::vector<ShimSite> sites) : sites_(std::move(sites)) {}
    // Never without one.
    const std::vector<ShimSite>& all() const { return sites_; }
    // The last one where there is none of this kind: it knows no volume of another's.
    const ShimSite& of(const std::string& kind) const;
    // The first that answers, or the last.
    const ShimSite& preferred() const;
    // Whose endpoint it is; Errc::not_found, or why none can tell.
    Result<const ShimSite*> with_endpoint(const Uuid& uuid) const;

  private:
    std::vector<ShimSite> sites_;
};

} // namespace dek::kcm
