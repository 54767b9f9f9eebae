// SPDX-License-Identifier: Apache-2.0
// Headers of devices that may stand still.
#pragma once

#include "volume/header.h"

namespace dek::kcm {

// As volume::read(), for some seconds. Over a multipath without paths a read waits until one is
// back, which only kcmd's operations thread brings about: so that does not wait for it.
// Errc::timeout: it has not answered yet, or an earlier read of the same device still waits. A read
// that is late ends by itself, and nothing is made of what it finds. It has a copy of this one
// descriptor and no other: those of a kcmd that is killed meanwhile, its locks among them, are
// closed. Any thread.
Result<volume::Found> read_header(const volume::Location& at);

} // namespace dek::kcm
