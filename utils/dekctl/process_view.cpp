// SPDX-License-Identifier: Apache-2.0
#include "process_view.h"

#include "fields.h"
#include "printable.h"

namespace dek::ctl {

void print_event(std::ostream& out, const Json& event) {
    out << time_at(event, "time") << "  " << text_at(event, "event");
    if (has(event, "volume"))
        out << "  " << text_at(event, "volume");
    for (const auto& [name, value] : event.items())
        if (name != "time" && name != "event" && name != "volume" && !value.is_null())
            out << "  " << printable(name) << "="
                << (value.is_array() ? joined(value) : text_of(value));
    out << '\n';
}

void print_version(std::ostream& out, const Json& answer) {
    out << "dekctl " << DEK_VERSION << '\n'
        << "kcmd " << text_at(answer, "version") << ", protocol " << text_at(answer, "protocol")
        << ", shim ABI " << text_at(answer, "abi") << '\n';
}

} // namespace dek::ctl
