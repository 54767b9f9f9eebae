// SPDX-License-Identifier: Apache-2.0
// Names of the error codes, and errno turned into them.
#include "base/result.h"

#include <cerrno>
#include <system_error>

namespace dek {

const char* errc_name(Errc code) {
    switch (code) {
    case Errc::invalid_argument:
        return "invalid-argument";
    case Errc::not_found:
        return "not-found";
    case Errc::exists:
        return "exists";
    case Errc::busy:
        return "busy";
    case Errc::refused:
        return "refused";
    case Errc::permission:
        return "permission";
    case Errc::wrong_key:
        return "wrong-key";
    case Errc::unknown_key:
        return "unknown-key";
    case Errc::corrupt:
        return "corrupt";
    case Errc::unsupported:
        return "unsupported";
    case Errc::locked:
        return "locked";
    case Errc::timeout:
        return "timeout";
    case Errc::no_space:
        return "no-space";
    case Errc::io:
        return "io";
    case Errc::unavailable:
        return "unavailable";
    case Errc::internal:
        return "internal";
    }
    return "internal";
}

static Errc errc_of_errno(int error) {
    switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ENOTDIR:
        return Errc::not_found;
    case EEXIST:
    case ENOTEMPTY:
        return Errc::exists;
    case EBUSY:
    case EWOULDBLOCK:
    case ETXTBSY:
        return Errc::busy;
    case EACCES:
    case EPERM:
    case EROFS:
        return Errc::permission;
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
        return Errc::invalid_argument;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return Errc::no_space;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTTY:
        return Errc::unsupported;
    case ETIMEDOUT:
    case ECANCELED:
        return Errc::timeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
        return Errc::unavailable;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return Errc::internal;
    default:
        return Errc::io;
    }
}

tl::unexpected<Error> fail_errno(int error, const std::string& what) {
    return fail(errc_of_errno(error), what + ": " + std::generic_category().message(error));
}

} // namespace dek
