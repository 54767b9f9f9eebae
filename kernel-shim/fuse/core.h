// SPDX-License-Identifier: Apache-2.0
// The core's C headers, for C++.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" // C lets a function and a struct have one name
#include "../core/endpoint.h"
#include "../core/snapshot.h"
#pragma GCC diagnostic pop
