// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <algorithm>

#include "printable.h"

namespace dek::ctl {

Table::Table(const std::vector<std::string>& headings) {
    std::vector<std::string> names;
    for (const std::string& heading : headings) {
        right_.push_back(heading.starts_with('>'));
        names.push_back(right_.back() ? heading.substr(1) : heading);
    }
    rows_.push_back(std::move(names));
}

void Table::add(std::vector<std::string> cells) {
    cells.resize(right_.size());
    rows_.push_back(std::move(cells));
}

void Table::print(std::ostream& out, const std::string& indent) const {
    std::vector<std::size_t> widths(right_.size());
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], columns_of(row[i]));
    for (const auto& row : rows_) {
        std::string line = indent;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string pad(widths[i] - columns_of(row[i]), ' ');
            line += right_[i] ? pad + row[i] : row[i] + pad;
            line += "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out << line << '\n';
    }
}

} // namespace dek::ctl
