// SPDX-License-Identifier: Apache-2.0
#include "kcm/hold.h"

#include "base/log.h"

namespace dek::kcm {

Result<Hold> Hold::whole(Shim& shim, const Uuid& uuid) {
    auto entry = shim.find(uuid);
    if (!entry)
        return tl::unexpected(entry.error());
    if (!*entry)
        return fail(Errc::not_found, "endpoint " + volume::uuid_text(uuid) + " is gone");
    auto tokens = shim.tokens(uuid);
    if (!tokens)
        return tl::unexpected(tokens.error());
    Hold hold(shim, uuid, {(*entry)->first, (*entry)->count});
    for (const auto& t : *tokens) {
        if (t.first == hold.range_.first && t.count == hold.range_.count)
            hold.token_ = t.token;
        else if (auto r = shim.release(uuid, t.token); !r)
            return tl::unexpected(r.error());
    }
    if (hold.token_)
        return hold;
    auto token = shim.quiesce(uuid, hold.range_);
    if (!token)
        return tl::unexpected(token.error());
    hold.token_ = *token;
    return hold;
}

Hold::~Hold() {
    if (!shim_ || !token_)
        return;
    if (auto r = shim_->release(uuid_, token_); !r)
        log_error("hold-not-released", r.error(), {{"endpoint", volume::uuid_text(uuid_)}});
}

} // namespace dek::kcm
