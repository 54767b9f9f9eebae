// SPDX-License-Identifier: Apache-2.0
// The kernel shim for a conformance run: `dek` targets over loop devices, in the machine that runs
// the suite (a virtual one: the module must be loaded).
#pragma once

#include <map>
#include <string>

#include "stage.h"

namespace conformance {

class KernelStage : public Stage {
  public:
    KernelStage();
    ~KernelStage() override;

    std::string control() const override { return "/dev/dek-control"; }
    Place make(const Spec& spec) override;
    void remove(const Place& place) override;

  private:
    struct Devices {
        int loop = -1; // open; detached with the last close
        bool slow = false;
    };

    std::string work_;
    unsigned made_ = 0;
    std::map<std::string, Devices> devices_; // by the volume's name
};

} // namespace conformance
