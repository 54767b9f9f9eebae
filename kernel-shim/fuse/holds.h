// SPDX-License-Identifier: Apache-2.0
// A lane's holds on associations. Requests of one lane share a hold, so that lanes working under
// the same key do not pull its reference count back and forth between CPUs.
#pragma once

#include <array>
#include <cstdint>

#include "core.h"

namespace dek::shim {

// Threading: one lane's own. take() only inside the read section that found the association.
class Holds {
  public:
    Holds() = default;
    Holds(const Holds&) = delete;
    Holds& operator=(const Holds&) = delete;
    ~Holds() { settle(); }

    void take(dek_association* association) {
        if (Entry* e = find(association)) {
            e->count++;
            return;
        }
        dek_association_get(association);
        if (Entry* e = find(nullptr))
            *e = {association, 1};
        // No room: this request has a hold of its own, which drop() gives back as such.
    }

    // Which of several equal holds is given back does not matter: their number is right.
    void drop(dek_association* association) {
        if (Entry* e = find(association); e && e->count)
            e->count--;
        else
            dek_association_put(association);
    }

    // Lets go of what no request uses any more. Once in each round of the lane.
    void settle() {
        for (Entry& e : entries_) {
            if (e.association && !e.count) {
                dek_association* gone = e.association;
                e = {};
                dek_association_put(gone);
            }
        }
    }

  private:
    struct Entry {
        dek_association* association = nullptr;
        std::uint32_t count = 0;
    };
    Entry* find(const dek_association* association) {
        for (Entry& e : entries_)
            if (e.association == association)
                return &e;
        return nullptr;
    }

    std::array<Entry, 8> entries_{};
};

} // namespace dek::shim
