// SPDX-License-Identifier: Apache-2.0
// The userspace shim for a conformance run: a dek-shimd of its own, volumes over files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

#include "stage.h"

namespace conformance {

class FuseStage : public Stage {
  public:
    FuseStage(const std::string& program, const std::string& slowfs);
    ~FuseStage() override;

    std::string control() const override { return work_ + "/shim/control/control"; }
    Place make(const Spec& spec) override;
    void remove(const Place& place) override;
    bool new_life() override;

  private:
    pid_t start(const std::vector<std::string>& arguments);
    pid_t worker() const;
    void wait_for_control() const;
    std::string slow_device(const std::string& backing, const std::string& folder, unsigned ms);
    int ioctl(unsigned long number, void* argument) const;

    std::string slowfs_, work_;
    pid_t shimd_ = -1;
    unsigned made_ = 0;
    std::map<std::string, pid_t> slow_; // by the folder of its mount
};

} // namespace conformance
