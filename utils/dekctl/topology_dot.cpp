// SPDX-License-Identifier: Apache-2.0
// `dekctl topology --dot`: the layers as boxes from top to bottom, the ranges as a table that hangs
// on the layer that encrypts.
#include "printable.h"
#include "topology_view.h"

namespace dek::ctl {
namespace {

// For "..." and for HTML-like labels; the text is printable already.
std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\')
            out += '\\';
        out += c;
    }
    return out;
}

std::string markup(const std::string& text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        default:
            out += c;
        }
    }
    return out;
}

// Index of the layer that encrypts; the last one if none does.
std::size_t print_boxes(std::ostream& out, const Json& layers) {
    std::size_t holder = layers.empty() ? 0 : layers.size() - 1;
    bool found = false;
    std::vector<std::size_t> above; // the way from the top to this layer; its length is the depth
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const Json& layer = layers[i];
        const bool encrypts = flag_at(layer, "encrypts");
        std::string what = text_at(layer, "kind");
        if (encrypts)
            what += ", encrypts";
        else if (has(layer, "role"))
            what += ", " + text_at(layer, "role");
        if (has(layer, "path"))
            what += ", " + text_at(layer, "path") + " path";
        out << "  layer" << i << " [label=\"" << escaped(text_at(layer, "node")) << "\\n"
            << escaped(what) << "\"" << (encrypts ? ", style=filled, fillcolor=\"#a8d8a8\"" : "");
        if (has(layer, "why"))
            out << ", tooltip=\"" << escaped(text_at(layer, "why")) << "\"";
        out << "];\n";
        if (encrypts && !found) {
            holder = i;
            found = true;
        }
        std::size_t depth = above.size();
        if (const auto told = number_at(layer, "depth"); told && *told < depth)
            depth = static_cast<std::size_t>(*told);
        above.resize(depth);
        if (depth > 0)
            out << "  layer" << above.back() << " -> layer" << i << ";\n";
        above.push_back(i);
    }
    return holder;
}

void print_range_table(std::ostream& out, const Json& ranges) {
    out << "  ranges [shape=none, label=<\n"
           "    <table border=\"0\" cellborder=\"1\" cellspacing=\"0\">\n";
    for (const Json& range : ranges) {
        out << "      <tr><td bgcolor=\"" << look_of(text_at(range, "state")).fill << "\">"
            << markup(text_at(range, "first")) << "-" << markup(text_at(range, "last")) << "</td>";
        for (const char* member : {"state", "by", "engine", "key"})
            out << "<td>" << markup(text_at(range, member)) << "</td>";
        out << "</tr>\n";
    }
    out << "    </table>>];\n";
}

} // namespace

void print_topology_dot(std::ostream& out, const Json& answer) {
    const Json& layers = array_at(answer, "layers");
    const Json& ranges = array_at(answer, "ranges");
    out << "digraph \"" << escaped(text_at(answer, "volume")) << "\" {\n"
        << "  node [shape=box, fontname=\"monospace\"];\n";
    if (has(answer, "encryptor_why"))
        out << "  label=\"" << escaped(text_at(answer, "encryptor_why")) << "\";\n";
    const std::size_t holder = print_boxes(out, layers);
    if (!ranges.empty()) {
        print_range_table(out, ranges);
        if (!layers.empty())
            out << "  layer" << holder << " -> ranges [style=dashed, arrowhead=none];\n";
    }
    out << "}\n";
}

} // namespace dek::ctl
