// SPDX-License-Identifier: Apache-2.0
// Catch2's main, compiled once for all test programs.
#if defined(__GNUC__) && !defined(__clang__)
// std::regex under GCC 12's sanitizers: a false alarm in the library.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
