// SPDX-License-Identifier: Apache-2.0
// What joins the core to the cipher: keys made ready for associations, and pieces of I/O run
// through them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core.h"
#include "xts.h"

namespace dek::shim {

// Chooses the engine and runs its known answers; once, before any endpoint exists. When they fail,
// every Query is answered Invalid HW State. `name`: auto, vaes512 or openssl.
Result<void> start_engine(const std::string& name);
const char* engine_name();
const dek_engine_ops* engine_ops();

struct Span {
    std::uint64_t lba; // start of a data unit inside the association
    std::uint64_t sectors;
    bool encrypt;
};

// In place. memory(byte) gives the contiguous memory from that byte of the span on, never cut
// inside a data unit. False: the engine failed.
template <class Memory>
bool crypt_span(const dek_association& a, Span span, Memory&& memory) {
    const auto& key = *static_cast<const XtsKey*>(a.engine);
    const std::uint32_t unit = a.geometry.data_unit;
    std::uint64_t byte = 0;
    while (span.sectors) {
        struct dek_tweak_run run;
        ::dek_tweak_run(&a.geometry, span.lba, span.sectors, &run);
        for (std::uint64_t left = run.count * 512; left;) {
            const auto here = memory(byte);
            const auto n = std::min<std::uint64_t>(left, here.size());
            const bool good =
                span.encrypt ? key.encrypt(here.data(), here.data(), n, unit, run.tweak, run.step)
                             : key.decrypt(here.data(), here.data(), n, unit, run.tweak, run.step);
            if (!good)
                return false;
            run.tweak += n / unit * run.step;
            byte += n;
            left -= n;
        }
        span.lba += run.count;
        span.sectors -= run.count;
    }
    return true;
}

} // namespace dek::shim
