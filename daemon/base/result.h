// SPDX-License-Identifier: Apache-2.0
// How expected failures travel: a code for programs, one clear sentence for people. Never a key in
// it.
#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace dek {

// The code decides exit codes, D-Bus error names (org.dekstack.Error.<name>) and what may be
// retried.
enum class Errc {
    invalid_argument, // the caller's words are off: dekctl exits 2
    not_found,
    exists,
    busy,    // somebody else has it, or it is in use
    refused, // would destroy or expose something; --force may allow it (the sentence says so)
    permission,
    wrong_key,   // key-check value, HMAC or passphrase do not match
    unknown_key, // no provider has a key of this ID
    corrupt,     // what was read contradicts itself
    unsupported,
    locked,  // the keystore is sealed
    timeout, // a deadline passed or the call was cancelled
    no_space,
    io,
    unavailable, // the shim, the daemon or a provider does not answer
    internal,
};

// "invalid-argument", "not-found", ...: as in JSON and D-Bus error names.
const char* errc_name(Errc code);

struct Error {
    Errc code;
    std::string reason; // one sentence, no trailing full stop, what and why
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Errc code, std::string reason) {
    return tl::unexpected<Error>(Error{code, std::move(reason)});
}

// `what` + ": " + the system's text; errno mapped to a code (ENOENT not_found, EBUSY busy, ...).
tl::unexpected<Error> fail_errno(int error, const std::string& what);

} // namespace dek
