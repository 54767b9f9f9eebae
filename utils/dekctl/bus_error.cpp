// SPDX-License-Identifier: Apache-2.0
#include "bus_error.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <unistd.h>

namespace dek::ctl {
namespace {

constexpr std::string_view ours = "org.dekstack.Error.";
constexpr std::string_view theirs = "org.freedesktop.DBus.Error.";

// docs/dbus.md, "Codes".
constexpr std::array<std::pair<std::string_view, Errc>, 16> codes{{
    {"InvalidArgument", Errc::invalid_argument},
    {"NotFound", Errc::not_found},
    {"Exists", Errc::exists},
    {"Busy", Errc::busy},
    {"Refused", Errc::refused},
    {"Permission", Errc::permission},
    {"WrongKey", Errc::wrong_key},
    {"UnknownKey", Errc::unknown_key},
    {"Corrupt", Errc::corrupt},
    {"Unsupported", Errc::unsupported},
    {"Locked", Errc::locked},
    {"Timeout", Errc::timeout},
    {"NoSpace", Errc::no_space},
    {"Io", Errc::io},
    {"Unavailable", Errc::unavailable},
    {"Internal", Errc::internal},
}};

tl::unexpected<Error> bus_refusal(std::string_view name, const std::string& sentence) {
    if (name == "AccessDenied" || name == "AuthFailed")
        return fail(Errc::permission, "kcmd answers root only");
    if (name == "NoReply" || name == "Disconnected")
        return lost(ECONNRESET);
    if (name == "ServiceUnknown" || name == "NameHasNoOwner")
        return fail(Errc::unavailable, "kcmd is not there");
    if (name == "UnknownMethod" || name == "UnknownInterface" || name == "UnknownObject" ||
        name == "InvalidArgs" || name == "InvalidSignature")
        return mismatch("it does not know this call");
    return fail(Errc::internal, sentence);
}

} // namespace

tl::unexpected<Error> call_error(const char* name, const char* sentence) {
    const std::string_view full = name ? name : "";
    const std::string text =
        sentence && *sentence ? sentence : "no reason given (" + std::string(full) + ")";
    if (full.starts_with(ours)) {
        for (const auto& [word, code] : codes)
            if (full.substr(ours.size()) == word)
                return fail(code, text);
        return fail(Errc::internal, text);
    }
    if (full.starts_with(theirs))
        return bus_refusal(full.substr(theirs.size()), text);
    return fail(Errc::internal, text);
}

tl::unexpected<Error> socket_error(const std::string& path, int error) {
    if (error == ENOENT)
        return fail(Errc::unavailable, "there is no kcmd at " + path);
    if (error == ECONNREFUSED)
        return fail(Errc::unavailable, "kcmd does not listen at " + path + " any more");
    if (error == EACCES || error == EPERM)
        return fail(Errc::permission, "kcmd answers root only (" + path + ")");
    return fail(Errc::unavailable, "cannot reach kcmd at " + path + ": " + std::strerror(error));
}

tl::unexpected<Error> lost(int error) {
    if (error == ECONNRESET || error == EPIPE || error == ENOTCONN || error == ESHUTDOWN) {
        if (::geteuid() != 0)
            return fail(Errc::permission, "kcmd closed the connection; it answers root only");
        return fail(Errc::unavailable, "kcmd closed the connection before it answered");
    }
    if (error == EACCES || error == EPERM)
        return fail(Errc::permission, "kcmd answers root only");
    if (error == EBADMSG || error == EPROTO || error == EOPNOTSUPP)
        return mismatch("what it sends is not D-Bus as agreed on");
    return fail(Errc::unavailable,
                std::string("lost the connection to kcmd: ") + std::strerror(error));
}

tl::unexpected<Error> mismatch(const std::string& how) {
    return fail(Errc::internal, "kcmd and dekctl are of different versions: " + how);
}

std::string advice(const Error& error) {
    if (error.reason.find("dekctl ") != std::string::npos ||
        error.reason.find("systemctl ") != std::string::npos ||
        error.reason.find("--") != std::string::npos)
        return ""; // it gives advice already
    switch (error.code) {
    case Errc::unavailable:
        if (error.reason.find("closed the connection") != std::string::npos)
            return "journalctl -u kcmd tells why";
        return error.reason.find("kcmd") != std::string::npos
                   ? "is kcmd running? systemctl start kcmd"
                   : "";
    case Errc::locked:
        return error.reason.find("no enrolled") == std::string::npos
                   ? "unlock the keystore first: dekctl keystore unlock"
                   : "--passphrase or --recovery opens it if one is enrolled";
    case Errc::permission:
        return ::geteuid() != 0 ? "run dekctl as root" : "";
    case Errc::unknown_key:
        return "dekctl key list shows the keys";
    default:
        return "";
    }
}

} // namespace dek::ctl
