// SPDX-License-Identifier: Apache-2.0
// Small files that are, after a crash at any instant, the old one or the new one, and on disk when
// the call returns.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <sys/types.h>

#include "base/result.h"

namespace dek {

// Written to a new file of mode 0600 beside `path` (which a crash may leave behind as
// `path`.new-XXXXXXXXXXXXXXXX), made durable, given `mode`, renamed onto `path`. Replaces what is
// there.
Result<void> write_file_durably(const std::string& path, std::span<const std::uint8_t> bytes,
                                mode_t mode);
// The same, but Errc::exists when `path` exists; two that race for it cannot both win.
Result<void> create_file_durably(const std::string& path, std::span<const std::uint8_t> bytes,
                                 mode_t mode);

// The name of a new file beside `path`, not taken yet with overwhelming probability.
std::string sibling_name(const std::string& path);
// Makes the file's bytes durable, renames it onto `to` (replacing, or Errc::exists when
// `exclusive`), makes the name durable. `from` and `to` lie in one directory. `from` stays when
// this fails.
Result<void> install_file_durably(const std::string& from, const std::string& to, bool exclusive);
// Makes the entries of the directory that `path` lies in durable.
Result<void> sync_directory_of(const std::string& path);

} // namespace dek
