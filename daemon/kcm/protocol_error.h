// SPDX-License-Identifier: Apache-2.0
// What a status of the protocol is to whoever asked the controller for something.
#pragma once

#include <dek/proto.h>

#include "base/result.h"

namespace dek::kcm {

inline Errc errc_of(dek_status status) {
    switch (status) {
    case DEK_BUSY:
        return Errc::busy;
    case DEK_NO_MEMORY:
    case DEK_ASSOCIATION_OVERFLOW:
        return Errc::no_space;
    case DEK_INVALID_RANGE:
    case DEK_INVALID_KEY:
        return Errc::invalid_argument;
    case DEK_ASSOCIATION_EXISTS:
        return Errc::exists;
    case DEK_INVALID_HW_STATE:
        return Errc::io;
    case DEK_UNKNOWN_ENDPOINT: // it began a new life since the handshake
        return Errc::unavailable;
    case DEK_UNKNOWN_HANDLE:
        return Errc::not_found;
    case DEK_NOT_CAPABLE:
    case DEK_BAD_VERSION:
        return Errc::unsupported;
    default:
        return Errc::internal;
    }
}

} // namespace dek::kcm
