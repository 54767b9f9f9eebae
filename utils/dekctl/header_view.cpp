// SPDX-License-Identifier: Apache-2.0
#include "header_view.h"

#include "fields.h"

namespace dek::ctl {
namespace {

Json rows_in_order(const Json& rows) {
    if (!rows.is_array())
        return rows;
    Json sorted = Json::array();
    for (const Json& row : rows)
        sorted.push_back(ordered(row, {"id", "first", "last"}));
    return sorted;
}

} // namespace

void print_header(std::ostream& out, const Json& header) {
    Json rest = ordered(header, {"name", "uuid", "sequence", "place", "header_lba", "header_at",
                                 "device_lbas", "offset", "size", "data_unit", "logical_block",
                                 "cipher", "tweak", "endpoint", "keys", "ranges"});
    for (const char* rows : {"keys", "ranges"})
        if (rest.contains(rows))
            rest[rows] = rows_in_order(rest[rows]);
    const Json copies = object_at(header, "copies");
    rest.erase("copies");
    rest.erase("authenticated");
    out << "header copies: A " << text_at(copies, "a") << ", B " << text_at(copies, "b") << '\n'
        << "authentic: " << yes_no(header, "authenticated", "unknown, its key is not at hand")
        << '\n';
    print_fields(out, "", rest);
}

void print_header_copy(std::ostream& out, const Json& answer) {
    out << "header of " << text_at(answer, "uuid") << ", sequence " << text_at(answer, "sequence");
    if (has(answer, "bytes"))
        out << ", " << text_at(answer, "bytes") << " bytes";
    out << '\n';
}

} // namespace dek::ctl
