// SPDX-License-Identifier: Apache-2.0
// Every single allocation that the module makes fails once: table loads and each call of the
// interface.
#pragma once

// Fault injection must be set up by the caller for allocations beneath the module. Prints a line
// for each operation; false, with the reason on stderr, when one does not answer as it should.
bool fail_every_allocation();
