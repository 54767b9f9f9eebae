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

struct Row {
    std::string tree, node, kind, role, why;
    std::size_t depth = 0;
};

std::string shown_role(const Json& layer) {
    if (!has(layer, "role"))
        return flag_at(layer, "encrypts") ? "ENCRYPTS" : "";
    const std::string role = text_at(layer, "role");
    if (role == "encrypts")
        return "ENCRYPTS";
    return role == "in-the-way" ? "in the way" : role == "passes-on" ? "passes on" : role;
}

const char* colour_of(const std::string& role) {
    if (role == "ENCRYPTS")
        return "\033[1;32m";
    return role == "in the way" ? "\033[31m" : role == "fenced" ? "\033[33m" : "";
}

// Where no depth is told, each layer lies beneath the one before it.
std::vector<Row> rows_of(const Json& layers) {
    std::vector<Row> rows;
    for (const Json& layer : layers) {
        Row row;
        row.depth = rows.empty() ? 0 : rows.back().depth + 1;
        if (const auto depth = number_at(layer, "depth"); depth && *depth < row.depth)
            row.depth = static_cast<std::size_t>(*depth);
        row.node = text_at(layer, "node");
        row.kind = text_at(layer, "kind");
        row.role = shown_role(layer);
        if (has(layer, "path"))
            row.why = text_at(layer, "path") + " path; ";
        if (has(layer, "engine"))
            row.why += "engine " + text_at(layer, "engine") + "; ";
        if (has(layer, "why"))
            row.why += text_at(layer, "why");
        else if (!row.why.empty())
            row.why.resize(row.why.size() - 2);
        rows.push_back(std::move(row));
    }
    return rows;
}

// "|-", "`-" and "|" as lsblk draws them; from the last row up, to know where a branch ends.
void draw_branches(std::vector<Row>& rows) {
    std::vector<bool> goes_on; // by depth: another one follows beneath the same
    for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
        goes_on.resize(row->depth + 1, false);
        for (std::size_t d = 1; d < row->depth && d < 64; d++)
            row->tree += goes_on[d] ? "| " : "  ";
        if (row->depth)
            row->tree += goes_on[row->depth] ? "|-" : "`-";
        goes_on[row->depth] = true;
    }
}

void print_layers(std::ostream& out, const Json& answer, const Paint& paint) {
    std::vector<Row> rows = rows_of(array_at(answer, "layers"));
    draw_branches(rows);
    std::size_t widest = 0, kinds = 0, roles = 0;
    for (const Row& row : rows) {
        widest = std::max(widest, columns_of(row.tree) + columns_of(row.node));
        kinds = std::max(kinds, columns_of(row.kind));
        roles = std::max(roles, columns_of(row.role));
    }
    const auto pad = [](std::size_t width, const std::string& text) {
        return std::string(width - columns_of(text) + 2, ' ');
    };
    if (!rows.empty())
        out << '\n';
    for (const Row& row : rows)
        out << "  " << row.tree << paint(bold, row.node) << pad(widest, row.tree + row.node)
            << row.kind << pad(kinds, row.kind) << paint(colour_of(row.role), row.role)
            << pad(roles, row.role) << row.why << '\n';
}

void print_decision(std::ostream& out, const Json& answer) {
    if (!has(answer, "encryptor"))
        return;
    out << "\n  encryptor: " << text_at(answer, "encryptor");
    if (has(answer, "encryptor_why"))
        out << " (" << text_at(answer, "encryptor_why") << ")";
    out << '\n';
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
    print_decision(out, answer);
}

} // namespace dek::ctl
