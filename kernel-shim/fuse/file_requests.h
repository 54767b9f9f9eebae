// SPDX-License-Identifier: Apache-2.0
// Requests of a volume's file that are not I/O: attributes, open and close, and what is refused.
#pragma once

#include <cstdint>
#include <span>

#include "fuse_wire.h"
#include "volume.h"

namespace dek::shim {

// Answers on `fd`, at once. `rest`: what of the request did not fit in `head`.
void answer_file_request(const Volume& volume, Counters& counters, int fd, const RequestHead& head,
                         std::span<const std::uint8_t> rest);

// Attributes of a root that is a regular file of `bytes` or a directory.
fuse_attr root_attributes(std::uint32_t mode, std::uint64_t bytes);

} // namespace dek::shim
