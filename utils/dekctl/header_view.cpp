// SPDX-License-Identifier: Apache-2.0
#include "header_view.h"

#include "fields.h"

namespace dek::ctl {

void print_header(std::ostream& out, const Json& header) {
    Json rest = header;
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
