// SPDX-License-Identifier: Apache-2.0
// Columns of text under one-word headings, as lsblk(8) and dmsetup(8) print them.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace dek::ctl {

class Table {
  public:
    // A heading that starts with '>' is aligned to the right.
    explicit Table(const std::vector<std::string>& headings);
    // As many cells as headings; already printable.
    void add(std::vector<std::string> cells);
    bool empty() const { return rows_.size() == 1; }
    void print(std::ostream& out, const std::string& indent = "") const;

  private:
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_; // the first: the headings
};

} // namespace dek::ctl
