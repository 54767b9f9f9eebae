// SPDX-License-Identifier: Apache-2.0
// Who encrypts what: the layers from top to bottom, the volume as a bar drawn to scale, and the
// table of its ranges; or all of that as a graph.
#pragma once

#include <cstddef>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "answer.h"

namespace dek::ctl {

struct Style {
    std::size_t width = 80; // columns
    bool colour = false;
};

void print_topology(std::ostream& out, const Json& answer, Style style);
void print_topology_dot(std::ostream& out, const Json& answer);

// How a state of ranges looks. The order of `states` is the order of attention: where several
// states share one character of the bar, the first of them is drawn.
struct StateLook {
    const char* state; // as the controller says it
    char mark;
    const char* ansi;   // colour on a terminal
    const char* fill;   // colour in a graph
    const char* legend; // what it means
};
const StateLook& look_of(const std::string& state); // one for what is unknown, too

// A range of the answer whose numbers make sense.
struct Drawn {
    std::uint64_t first, last;
    const StateLook* look;
};
std::vector<Drawn> drawn_ranges(const Json& answer);

// The bar: a character stands for `lbas_per_mark` LBAs; '?' where no range was told of.
struct Bar {
    std::string marks;
    std::uint64_t lbas_per_mark = 0;
};
Bar bar_of(const std::vector<Drawn>& ranges, std::size_t width);

} // namespace dek::ctl
