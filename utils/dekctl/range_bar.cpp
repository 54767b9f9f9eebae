// SPDX-License-Identifier: Apache-2.0
// The bar of `dekctl topology`: a volume drawn to scale in one line of characters.
#include <algorithm>
#include <array>

#include "topology_view.h"

namespace dek::ctl {
namespace {

constexpr std::array<StateLook, 6> looks{{
    {"fenced", '!', "\033[31m", "#f4a0a0", "fenced: no key, I/O fails"},
    {"yielded", '~', "\033[33m", "#f6dc8c", "yielded: encrypted above, passes"},
    {"plain", '.', "", "#ffffff", "plain"},
    {"reserved", 'r', "\033[36m", "#b8d8f0", "reserved: the header"},
    {"keyed", '#', "\033[32m", "#a8d8a8", "encrypted"},
    {"", '?', "\033[35m", "#dddddd", "not told"},
}};

std::size_t rank(char mark) {
    for (std::size_t i = 0; i < looks.size(); ++i)
        if (looks[i].mark == mark)
            return i;
    return looks.size();
}

} // namespace

const StateLook& look_of(const std::string& state) {
    const std::string word = state == "encrypted" ? "keyed" : state;
    for (const StateLook& look : looks)
        if (word == look.state)
            return look;
    return looks.back();
}

std::vector<Drawn> drawn_ranges(const Json& answer) {
    std::vector<Drawn> drawn;
    for (const Json& range : array_at(answer, "ranges")) {
        const auto first = number_at(range, "first");
        const auto last = number_at(range, "last");
        if (first && last && *first <= *last)
            drawn.push_back({*first, *last, &look_of(text_at(range, "state"))});
    }
    return drawn;
}

Bar bar_of(const std::vector<Drawn>& ranges, std::size_t width) {
    if (ranges.empty() || width == 0)
        return {};
    std::uint64_t last = 0;
    for (const Drawn& range : ranges)
        last = std::max(last, range.last);
    Bar bar;
    bar.lbas_per_mark = last / width + 1; // the last LBA falls on a mark below `width`
    bar.marks.assign(static_cast<std::size_t>(last / bar.lbas_per_mark) + 1, '?');
    for (const Drawn& range : ranges)
        for (std::uint64_t i = range.first / bar.lbas_per_mark; i <= range.last / bar.lbas_per_mark;
             ++i)
            if (char& mark = bar.marks[static_cast<std::size_t>(i)];
                rank(range.look->mark) < rank(mark))
                mark = range.look->mark;
    return bar;
}

} // namespace dek::ctl
