// SPDX-License-Identifier: Apache-2.0
#include "fields.h"

#include <algorithm>
#include <ctime>
#include <vector>

#include "printable.h"
#include "table.h"

namespace dek::ctl {
namespace {

std::string label_of(const std::string& member) {
    std::string label = printable(member);
    std::replace(label.begin(), label.end(), '_', ' ');
    return label;
}

bool scalar(const Json& value) {
    return !value.is_object() && !value.is_array();
}

std::string cell(const Json& value) {
    if (value.is_array())
        return joined(value);
    return value.is_object() ? "{" + std::to_string(value.size()) + "}" : text_of(value);
}

// The columns are the members of the first row.
void print_rows(std::ostream& out, const std::string& indent, const Json& rows) {
    std::vector<std::string> members;
    std::vector<std::vector<std::string>> lines(1);
    for (const auto& [member, value] : rows.front().items()) {
        members.push_back(member);
        std::string heading = label_of(member);
        std::transform(heading.begin(), heading.end(), heading.begin(), [](unsigned char c) {
            return static_cast<char>(c < 0x80 ? std::toupper(c) : c);
        });
        lines.front().push_back(heading);
    }
    for (const Json& row : rows) {
        lines.emplace_back();
        for (const std::string& member : members)
            lines.back().push_back(row.is_object() && row.contains(member) ? cell(row[member])
                                                                           : "-");
    }
    Table table(lines.front());
    for (std::size_t i = 1; i < lines.size(); ++i)
        table.add(lines[i]);
    table.print(out, indent);
}

} // namespace

std::string joined(const Json& array) {
    std::string text;
    for (const Json& value : array)
        text += (text.empty() ? "" : ", ") + cell(value);
    return text.empty() ? "-" : text;
}

void print_field(std::ostream& out, const std::string& indent, const Json& object,
                 const char* member, const char* label) {
    if (has(object, member))
        out << indent << (label ? std::string(label) : label_of(member)) << ": "
            << text_at(object, member) << '\n';
}

void print_fields(std::ostream& out, const std::string& indent, const Json& object) {
    if (!object.is_object())
        return;
    for (const auto& [member, value] : object.items()) {
        const std::string label = indent + label_of(member) + ":";
        if (scalar(value)) {
            out << label << ' ' << text_of(value) << '\n';
        } else if (value.is_object()) {
            out << label << '\n';
            print_fields(out, indent + "  ", value);
        } else if (value.empty() || !value.front().is_object() || value.front().empty()) {
            out << label << ' ' << joined(value) << '\n';
        } else {
            out << label << '\n';
            print_rows(out, indent + "  ", value);
        }
    }
}

std::string time_at(const Json& object, const char* member) {
    const auto seconds = number_at(object, member);
    if (!seconds)
        return text_at(object, member);
    const auto time = static_cast<std::time_t>(*seconds);
    std::tm local{};
    char text[64];
    if (!localtime_r(&time, &local) ||
        !std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local))
        return std::to_string(*seconds);
    return text;
}

std::string yes_no(const Json& object, const char* member, const char* unknown) {
    const std::string text = text_at(object, member);
    return text == "yes" || text == "no" ? text : unknown;
}

} // namespace dek::ctl
