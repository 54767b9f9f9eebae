// SPDX-License-Identifier: Apache-2.0
// One endpoint and one plain model, taken through the same operations, as the dice fall: some are
// short of memory, some abandoned while they drain, some sent again. After each, every LBA must be
// what the model says.
#pragma once

#include <functional>
#include <memory>

namespace rig {

class Walk {
  public:
    // 0 <= result < n; n >= 1.
    using Dice = std::function<unsigned(unsigned n)>;

    // tight: few ranges and associations fit. seed: of the endpoint's random numbers.
    Walk(Dice dice, unsigned seed, bool tight, bool recovering);
    ~Walk();
    Walk(const Walk&) = delete;
    Walk& operator=(const Walk&) = delete;

    // std::logic_error when the endpoint does something else than the model.
    void step();

  private:
    class State;
    std::unique_ptr<State> state_;
};

} // namespace rig
