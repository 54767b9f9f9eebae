// SPDX-License-Identifier: Apache-2.0
// What is different when a person sits in front: width, colour, a sign of life, questions without
// echo.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "base/result.h"
#include "base/secret.h"

namespace dek::ctl {

// Columns of standard output; of $COLUMNS, or 80, when it is not a terminal. 40 to 200.
std::size_t terminal_width();
// Standard output is a terminal that knows colours, and NO_COLOR is unset or empty.
bool colour_wanted();

// Shows on standard error, if that is a terminal, that a call is under way and for how long: from
// its second second on. Clears the line when it goes.
class Waiting {
  public:
    explicit Waiting(std::string what); // printable
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    void tick();

  private:
    std::string what_;
    std::chrono::steady_clock::time_point start_;
    bool terminal_;
    bool shown_ = false;
};

// Standard input and standard error are terminals: a question can be asked.
bool can_ask();
// One line from the terminal, not echoed, without its newline; refused when empty. `twice`: it is
// being set, so it is asked again and must be the same. Signals restore the echo before they end
// the program.
Result<Secret> ask_secret(const std::string& question, bool twice);
// True when the answer is "yes".
bool ask_yes(const std::string& question);

} // namespace dek::ctl
