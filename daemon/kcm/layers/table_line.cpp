// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/table_line.h"

#include <charconv>
#include <system_error>

#include "kcm/layers/words.h"

namespace dek::kcm::layers {
namespace {

Result<TableLine> parse_line(std::string_view text) {
    Words words(text);
    TableLine line;
    line.first = words.number();
    line.count = words.number();
    line.type = words.word();
    line.parameters = words.rest();
    if (!words.ok())
        return fail(Errc::corrupt, "a table line needs a first sector, a length and a type");
    return line;
}

} // namespace

bool parse_number(std::string_view text, std::uint64_t& out) {
    const auto* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, out);
    return error == std::errc() && at == end && !text.empty();
}

Result<std::vector<TableLine>> parse_table(std::string_view text) {
    std::vector<TableLine> table;
    std::uint64_t next = 0;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        auto line = parse_line(text.substr(0, end));
        if (!line)
            return tl::unexpected(line.error());
        if (line->first != next || line->count == 0 || line->count > ~0ull - next)
            return fail(Errc::corrupt,
                        "a table has a gap or an overlap at sector " + std::to_string(next));
        next += line->count;
        table.push_back(std::move(*line));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return table.empty() ? Result<std::vector<TableLine>>(fail(Errc::corrupt, "a table is empty"))
                         : table;
}

std::string to_string(const TableLine& line) {
    return std::to_string(line.first) + " " + std::to_string(line.count) + " " + line.type +
           (line.parameters.empty() ? "" : " " + line.parameters);
}

} // namespace dek::kcm::layers
