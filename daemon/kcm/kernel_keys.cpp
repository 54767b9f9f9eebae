// SPDX-License-Identifier: Apache-2.0
#include "kcm/kernel_keys.h"

#include <cerrno>

#include <keyutils.h>

#include "base/log.h"

namespace dek::kcm {

Result<void> KernelKeys::add(const std::string& description, const Secret& key) {
    const auto serial = ::add_key("logon", description.c_str(), key.bytes().data(), key.size(),
                                  KEY_SPEC_PROCESS_KEYRING);
    if (serial < 0)
        return fail_errno(errno, "the kernel's keyring does not take a key");
    serials_.push_back(serial);
    return {};
}

// Invalidated, so that it is gone at once and not when the keyring is.
KernelKeys::~KernelKeys() {
    for (const int serial : serials_)
        if (::keyctl_invalidate(serial) != 0 && ::keyctl_revoke(serial) != 0)
            log(Level::error, "key-stays-in-keyring", {{"errno", errno}});
}

} // namespace dek::kcm
