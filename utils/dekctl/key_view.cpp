// SPDX-License-Identifier: Apache-2.0
#include "key_view.h"

#include <algorithm>

#include "fields.h"
#include "printable.h"
#include "table.h"

namespace dek::ctl {

void print_key_line(std::ostream& out, const Json& key) {
    out << text_at(key, "id") << "  " << text_at(key, "name") << "  " << text_at(key, "bits")
        << " bits, " << text_at(key, "state") << '\n';
}

void print_keys(std::ostream& out, const Json& answer) {
    Table table({"ID", "NAME", "STATE", ">BITS", "PROVIDER", "CREATED"});
    for (const Json& key : array_at(answer, "keys"))
        table.add({text_at(key, "id"), text_at(key, "name"), text_at(key, "state"),
                   text_at(key, "bits"), text_at(key, "provider"), time_at(key, "created")});
    if (table.empty())
        out << "no keys\n";
    else
        table.print(out);
}

void print_key(std::ostream& out, const Json& key) {
    out << "key: " << text_at(key, "id") << '\n';
    print_field(out, "  ", key, "name");
    print_field(out, "  ", key, "state");
    out << "  algorithm: " << text_at(key, "algorithm") << ", " << text_at(key, "bits")
        << " bits\n";
    print_field(out, "  ", key, "provider");
    out << "  created: " << time_at(key, "created") << '\n'
        << "  changed: " << time_at(key, "changed") << '\n';
    for (const auto& [name, value] : object_at(key, "attributes").items())
        out << "  attribute: " << printable(name) << "=" << text_of(value) << '\n';
    const Json& volumes = array_at(key, "volumes");
    out << "  used by: " << (volumes.empty() ? "no attached volume" : joined(volumes)) << '\n';
}

// Lines of text that another program reads: newlines stay, nothing else that controls a terminal.
void print_wrapped(std::ostream& out, const Json& answer) {
    std::string text = answer.contains("wrapped") && answer["wrapped"].is_string()
                           ? answer["wrapped"].get<std::string>()
                           : "";
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        out << printable(text.substr(at, end - at)) << '\n';
        at = end + 1;
    }
}

void print_keystore(std::ostream& out, const Json& answer) {
    if (has(answer, "path"))
        out << "keystore: " << text_at(answer, "path")
            << (!answer.contains("sealed")  ? ""
                : flag_at(answer, "sealed") ? ", SEALED"
                                            : ", unsealed")
            << '\n';
    Table table({">SLOT", "KIND", "CREATED", "HINT"});
    for (const Json& slot : array_at(answer, "slots"))
        table.add({text_at(slot, "slot"), text_at(slot, "kind"), time_at(slot, "created"),
                   text_at(slot, "hint")});
    if (!table.empty())
        table.print(out, "  ");
    const Json& cache = object_at(answer, "cache");
    if (!cache.empty())
        out << "cache: " << counted(text_at(cache, "keys"), "key") << " in memory, each for "
            << text_at(cache, "lifetime") << " s at most\n";
}

void print_slot(std::ostream& out, const Json& answer) {
    out << "enrolled as slot " << text_at(answer, "slot") << '\n';
}

void print_restored(std::ostream& out, const Json& answer) {
    out << "restored, " << counted(text_at(answer, "keys"), "key") << '\n';
}

void print_flushed(std::ostream& out, const Json& answer) {
    out << counted(text_at(answer, "flushed"), "key") << " flushed\n";
}

} // namespace dek::ctl
