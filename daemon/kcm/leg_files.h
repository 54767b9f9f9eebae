// SPDX-License-Identifier: Apache-2.0
// The host's configuration of legs: STATE/endpoints/NAME.json, and of the multipath maps over them:
// STATE/multipath/NAME.json. After a crash each file is the old one or the new one.
#pragma once

#include <optional>

#include "kcm/leg.h"

namespace dek::kcm {

// Not a lock: who writes is alone (kcmd's operations thread), anybody may read.
class LegFiles {
  public:
    explicit LegFiles(const std::string& state_dir)
        : legs_(state_dir + "/endpoints"), maps_(state_dir + "/multipath") {}

    // What cannot be understood is left out, left alone, and logged once.
    std::vector<Leg> legs() const;
    std::vector<MultipathMap> maps() const;
    bool has_leg(const std::string& name) const; // understood or not
    bool has_map(const std::string& name) const;

    Result<void> add(const Leg& leg) const; // Errc::exists
    Result<void> replace(const Leg& leg) const;
    Result<void> add(const MultipathMap& map) const; // Errc::exists
    Result<void> remove_leg(const std::string& name) const;
    Result<void> remove_map(const std::string& name) const;

  private:
    std::string legs_;
    std::string maps_;
};

} // namespace dek::kcm
