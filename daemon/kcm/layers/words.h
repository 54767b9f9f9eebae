// SPDX-License-Identifier: Apache-2.0
// Reading a line word by word. Private to the layers.
#pragma once

#include "kcm/layers/table_line.h"

namespace dek::kcm::layers {

// What is missing or no number makes it not ok(), once and for all; what is read from then on is
// empty or 0.
class Words {
  public:
    explicit Words(std::string_view text) : text_(text) {}
    std::string word() {
        skip_blanks();
        const auto end = std::min(text_.find_first_of(" \t"), text_.size());
        std::string found(text_.substr(0, end));
        text_.remove_prefix(end);
        ok_ = ok_ && !found.empty();
        return ok_ ? found : std::string();
    }
    std::uint64_t number() {
        std::uint64_t n = 0;
        ok_ = parse_number(word(), n) && ok_;
        return ok_ ? n : 0;
    }
    // A number of words that must be there.
    std::vector<std::string> list() {
        std::vector<std::string> all;
        for (std::uint64_t n = number(); ok_ && n > 0; n--)
            all.push_back(word());
        return all;
    }
    // What is left, which may be nothing.
    std::string rest() {
        skip_blanks();
        return std::string(std::exchange(text_, {}));
    }
    bool at_end() {
        skip_blanks();
        return text_.empty();
    }
    bool ok() const { return ok_; }

  private:
    void skip_blanks() {
        text_.remove_prefix(std::min(text_.find_first_not_of(" \t"), text_.size()));
    }

    std::string_view text_;
    bool ok_ = true;
};

} // namespace dek::kcm::layers
