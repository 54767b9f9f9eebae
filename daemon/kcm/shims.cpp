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
    std::optional<Error> silence;
    bool answered = false;
    for (const auto& site : sites_) {
        auto found = site.shim->find(uuid);
        if (found && *found)
            return &site;
        answered = answered || found;
        if (!found)
            silence = found.error();
    }
    if (answered || !silence)
        return fail(Errc::not_found, "no shim that answers has endpoint " +
                                         volume::uuid_text(uuid) +
                                         "; dekctl endpoint list shows those there are");
    return tl::unexpected(*silence);
}

} // namespace dek::kcm
