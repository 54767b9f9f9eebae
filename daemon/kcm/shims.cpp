// SPDX-License-Identifier: Apache-2.0
#include "kcm/shims.h"

namespace dek::kcm {

const ShimSite& Shims::of(const std::string& kind) const {
    for (const auto& site : sites_)
        if (site.kind == kind)
            return site;
    return sites_.back();
}

const ShimSite& Shims::preferred() const {
    for (const auto& site : sites_)
        if (site.shim->version())
            return site;
    return sites_.back();
}

Result<const ShimSite*> Shims::with_endpoint(const Uuid& uuid) const {
    Error why{Errc::not_found, "no shim has endpoint " + volume::uuid_text(uuid)};
    for (const auto& site : sites_) {
        auto found = site.shim->find(uuid);
        if (found && *found)
            return &site;
        if (!found)
            why = found.error();
    }
    return tl::unexpected(why);
}

} // namespace dek::kcm
