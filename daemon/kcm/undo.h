// SPDX-License-Identifier: Apache-2.0
// What to take back when an operation fails half way: in reverse order, unless it is done.
#pragma once

#include <functional>
#include <vector>

namespace dek::kcm {

class Undo {
  public:
    Undo() = default;
    Undo(const Undo&) = delete;
    Undo& operator=(const Undo&) = delete;
    ~Undo() { run(); }
    void add(std::function<void()> step) { steps_.push_back(std::move(step)); } // must not throw
    void done() { steps_.clear(); }
    // Now, for whoever has to say what could not be taken back.
    void run() {
        for (; !steps_.empty(); steps_.pop_back())
            steps_.back()();
    }

  private:
    std::vector<std::function<void()>> steps_;
};

} // namespace dek::kcm
