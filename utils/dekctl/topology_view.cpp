// SPDX-License-Identifier: Apache-2.0
#include "topology_view.h"

#include <algorithm>
#include <set>

#include "printable.h"
#include "table.h"

namespace dek::ctl {
namespace {

constexpr const char* bold = "\033[1m";
constexpr const char* normal = "\033[0m";

// The colours belong to us; the text is printable and so cannot hold any.
class Paint {
  public:
    explicit Paint(bool colour) : colour_(colour) {}
    std::string operator()(const char* ansi, const std::string& text) const {
        return colour_ && *ansi ? ansi + text + normal : text;
    }

  private:
    bool colour_;
};

void print_layers(std::ostream& out, const Json& answer, const Paint& paint) {
    const Json& layers = array_at(answer, "layers");
    std::size_t widest = 0;
    for (const Json& layer : layers)
        widest = std::max(widest, columns_of(text_at(layer, "node")));
    const char* between = "\n";
    for (const Json& layer : layers) {
        const std::string node = text_at(layer, "node"), kind = text_at(layer, "kind");
        const bool encrypts = flag_at(layer, "encrypts");
        out << between << "  " << paint(bold, node)
            << std::string(widest - columns_of(node) + 2, ' ') << kind
            << std::string(kind.size() < 8 ? 8 - kind.size() : 1, ' ')
            << (encrypts ? paint("\033[1;32m", "ENCRYPTS  ") : "          ");
        out << (has(layer, "why") ? text_at(layer, "why") : "") << '\n';
        between = "    |\n";
    }
}

void print_bar(std::ostream& out, const std::vector<Drawn>& ranges, Style style,
               const Paint& paint) {
    const Bar bar = bar_of(ranges, style.width - 4);
    out << '\n';
    std::uint64_t last = 0;
    for (const Drawn& range : ranges)
        last = std::max(last, range.last);
    const std::string end = std::to_string(last);
    const std::size_t gap =
        bar.marks.size() + 2 > end.size() + 1 ? bar.marks.size() + 2 - end.size() - 1 : 1;
    out << "  0" << std::string(gap, ' ') << end << "\n  [";
    std::set<char> seen;
    for (std::size_t i = 0; i < bar.marks.size();) {
        const std::size_t run =
            std::min(bar.marks.find_first_not_of(bar.marks[i], i), bar.marks.size()) - i;
        const char* ansi = "";
        for (const Drawn& range : ranges)
            if (range.look->mark == bar.marks[i])
                ansi = range.look->ansi;
        out << paint(ansi, bar.marks.substr(i, run));
        seen.insert(bar.marks[i]);
        i += run;
    }
    out << "]\n";
    std::set<char> named;
    const char* between = "  ";
    const auto name = [&](const StateLook& look) {
        if (!seen.contains(look.mark) || !named.insert(look.mark).second)
            return;
        out << between << paint(look.ansi, std::string(1, look.mark)) << ' ' << look.legend;
        between = "   ";
    };
    for (const Drawn& range : ranges)
        name(*range.look);
    name(look_of(""));
    out << "\n  one character: " << size_of_lbas(bar.lbas_per_mark) << " ("
        << counted(std::to_string(bar.lbas_per_mark), "LBA") << ")\n";
}

void print_ranges(std::ostream& out, const Json& answer) {
    Table table(
        {"  ", ">FIRST", ">LAST", ">SIZE", "STATE", "BY", "ENGINE", "KEY", ">ASSOC", ">TWEAK"});
    for (const Json& range : array_at(answer, "ranges")) {
        const auto first = number_at(range, "first");
        const auto last = number_at(range, "last");
        const bool sound = first && last && *first <= *last && *last - *first < UINT64_MAX;
        table.add({std::string(1, look_of(text_at(range, "state")).mark), text_at(range, "first"),
                   text_at(range, "last"), sound ? size_of_lbas(*last - *first + 1) : "-",
                   text_at(range, "state"), text_at(range, "by"), text_at(range, "engine"),
                   text_at(range, "key"), text_at(range, "association"),
                   text_at(range, "tweak_first")});
    }
    out << '\n';
    table.print(out, "  ");
}

} // namespace

void print_topology(std::ostream& out, const Json& answer, Style style) {
    const Paint paint(style.colour);
    out << "volume " << paint(bold, text_at(answer, "volume")) << "  " << text_at(answer, "uuid")
        << '\n';
    print_layers(out, answer, paint);
    const std::vector<Drawn> ranges = drawn_ranges(answer);
    if (ranges.empty()) {
        out << "\n  no ranges are known\n";
        return;
    }
    print_bar(out, ranges, style, paint);
    print_ranges(out, answer);
}

} // namespace dek::ctl
