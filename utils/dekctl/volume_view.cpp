// SPDX-License-Identifier: Apache-2.0
#include "volume_view.h"

#include "fields.h"
#include "printable.h"
#include "table.h"

namespace dek::ctl {
namespace {

std::string size_at(const Json& object, const char* member) {
    const auto lbas = number_at(object, member);
    return lbas ? size_of_lbas(*lbas) : "-";
}

// "9.0 MiB (90%)"; rounded down, so that 100% means all of it.
std::string encrypted_share(const Json& volume) {
    const auto encrypted = number_at(volume, "encrypted_blocks");
    const auto size = number_at(volume, "size");
    if (!encrypted || !size || *size == 0 || *encrypted > *size)
        return size_at(volume, "encrypted_blocks");
    const auto percent = static_cast<unsigned>(static_cast<long double>(*encrypted) * 100 /
                                               static_cast<long double>(*size));
    return size_of_lbas(*encrypted) + " (" + std::to_string(*encrypted == *size ? 100 : percent) +
           "%)";
}

void print_place(std::ostream& out, const Json& volume) {
    if (!has(volume, "place"))
        return;
    out << "  header: " << text_at(volume, "place");
    if (has(volume, "header"))
        out << " in " << text_at(volume, "header");
    else if (has(volume, "header_at"))
        out << " at LBA " << text_at(volume, "header_at");
    if (has(volume, "sequence"))
        out << ", sequence " << text_at(volume, "sequence");
    out << '\n';
}

void print_geometry(std::ostream& out, const Json& volume) {
    out << "  size: " << size_at(volume, "size") << " (" << text_at(volume, "size") << " LBAs)";
    if (has(volume, "offset"))
        out << ", from LBA " << text_at(volume, "offset") << " of the device";
    out << "\n  encrypted: " << encrypted_share(volume) << '\n'
        << "  cipher: " << text_at(volume, "cipher") << ", data unit "
        << text_at(volume, "data_unit") << ", tweak " << text_at(volume, "tweak")
        << ", logical block " << text_at(volume, "logical_block") << '\n';
}

void print_keys_of(std::ostream& out, const Json& volume) {
    for (const Json& key : array_at(volume, "keys"))
        out << "  key: " << text_at(key, "id") << " \"" << text_at(key, "name") << "\" ("
            << text_at(key, "bits") << " bits, " << text_at(key, "state") << ", "
            << text_at(key, "provider") << ")\n";
}

void print_associations_of(std::ostream& out, const Json& volume) {
    for (const Json& association : array_at(volume, "associations"))
        out << "  association: " << text_at(association, "handle") << ", key "
            << text_at(association, "key") << ", "
            << counted(text_at(association, "ranges"), "range") << ", "
            << size_at(association, "blocks")
            << (has(association, "endpoint") ? ", " + text_at(association, "endpoint") : "")
            << '\n';
}

// "read_bytes" and the like as sizes, the rest as numbers; zeros are left out.
void print_counters(std::ostream& out, const Json& volume) {
    std::string text;
    std::size_t column = 0;
    const auto add = [&](const std::string& counter) {
        const bool fits = column + counter.size() < 64;
        text += text.empty() ? counter : (fits ? ", " : ",\n    ") + counter;
        column = (fits ? column + 2 : 0) + counter.size();
    };
    const Json counters = ordered(object_at(volume, "counters"),
                                  {"reads", "read_bytes", "writes", "write_bytes", "flushes",
                                   "decrypted_bytes", "encrypted_bytes", "plain_bytes"});
    for (const auto& [name, value] : counters.items()) {
        const Json entry{{"value", value}};
        const auto number = number_at(entry, "value");
        if (!number || *number == 0)
            continue;
        std::string label = printable(name);
        const bool bytes = label.ends_with("_bytes");
        for (char& c : label)
            c = c == '_' ? ' ' : c;
        if (bytes)
            add(label.substr(0, label.size() - 6) + " " + size_of_bytes(*number));
        else
            add(label + " " + std::to_string(*number));
    }
    if (!text.empty())
        out << "  counters: " << text << '\n';
}

void print_volume(std::ostream& out, const Json& volume) {
    out << "volume: " << text_at(volume, "name") << '\n';
    print_field(out, "  ", volume, "uuid");
    out << "  state: " << text_at(volume, "state");
    if (has(volume, "reason"))
        out << " (" << text_at(volume, "reason") << ")";
    if (flag_at(volume, "read_only"))
        out << ", read-only";
    out << "\n  node: " << text_at(volume, "node");
    if (has(volume, "block_device"))
        out << " -> " << text_at(volume, "block_device");
    out << '\n';
    print_field(out, "  ", volume, "device");
    print_place(out, volume);
    print_geometry(out, volume);
    out << "  engine: " << text_at(volume, "engine") << ", " << text_at(volume, "shim")
        << " shim, endpoint policy " << text_at(volume, "endpoint_policy") << '\n';
    if (has(volume, "encryptor"))
        out << "  encryptor: " << text_at(volume, "encryptor")
            << (has(volume, "encryptor_why") ? " (" + text_at(volume, "encryptor_why") + ")" : "")
            << '\n';
    print_keys_of(out, volume);
    print_associations_of(out, volume);
    print_counters(out, volume);
}

void print_shim(std::ostream& out, const Json& shim) {
    if (shim.empty()) {
        out << "shim: none\n";
        return;
    }
    out << "shim: " << text_at(shim, "kind") << ", " << (flag_at(shim, "up") ? "up" : "DOWN");
    if (has(shim, "build"))
        out << ", " << text_at(shim, "build");
    if (has(shim, "engine"))
        out << ", engine " << text_at(shim, "engine");
    if (shim.contains("takeover") && flag_at(shim, "up"))
        out << ", "
            << (flag_at(shim, "takeover") ? "a crash is a pause" : "a crash ends in I/O errors");
    out << '\n';
}

void print_footer(std::ostream& out, const Json& answer) {
    print_shim(out, object_at(answer, "shim"));
    const Json& keystore = object_at(answer, "keystore");
    const Json& trouble = object_at(keystore, "trouble");
    out << "keystore: ";
    if (!trouble.empty())
        out << "NOT USABLE, " << text_at(trouble, "reason")
            << (text_at(trouble, "code") == "corrupt"
                    ? "; dekctl keystore restore puts a backup in its place"
                    : "");
    else
        out << (!flag_at(keystore, "present") ? "none; dekctl keystore init makes one"
                : flag_at(keystore, "sealed") ? "SEALED; dekctl keystore unlock"
                                              : "unsealed");
    out << '\n';
    const Json& daemon = object_at(answer, "daemon");
    out << "kcmd: " << text_at(daemon, "version") << ", pid " << text_at(daemon, "pid")
        << ", since " << time_at(daemon, "since") << '\n';
}

} // namespace

void print_volume_line(std::ostream& out, const Json& volume) {
    out << text_at(volume, "name") << ": " << text_at(volume, "state") << " at "
        << text_at(volume, "node") << ", " << size_at(volume, "size") << ", "
        << encrypted_share(volume) << " encrypted, engine " << text_at(volume, "engine")
        << (flag_at(volume, "read_only") ? ", read-only" : "") << '\n';
    if (has(volume, "reason"))
        out << "  " << text_at(volume, "reason") << '\n';
}

void print_status(std::ostream& out, const Json& answer) {
    Table table({"NAME", "STATE", ">SIZE", ">ENCRYPTED", "ENGINE", "SHIM", "NODE", "DEVICE"});
    for (const Json& volume : array_at(answer, "volumes"))
        table.add({text_at(volume, "name"), text_at(volume, "state"), size_at(volume, "size"),
                   encrypted_share(volume), text_at(volume, "engine"), text_at(volume, "shim"),
                   text_at(volume, "node"), text_at(volume, "device")});
    if (table.empty())
        out << "no volume is attached\n";
    else
        table.print(out);
    for (const Json& volume : array_at(answer, "volumes"))
        if (has(volume, "reason"))
            out << text_at(volume, "name") << ": " << text_at(volume, "reason") << '\n';
    out << '\n';
    print_footer(out, answer);
}

void print_volumes(std::ostream& out, const Json& answer) {
    const char* between = "";
    for (const Json& volume : array_at(answer, "volumes")) {
        out << between;
        print_volume(out, volume);
        between = "\n";
    }
}

void print_erased(std::ostream& out, const Json& answer) {
    out << "erased the header of "
        << (has(answer, "uuid") ? text_at(answer, "uuid") : "an unknown volume");
    const char* before = ": ";
    for (const Json& where : array_at(answer, "erased")) {
        out << before << (where.is_number() ? "LBA " : "") << text_of(where);
        before = ", ";
    }
    out << '\n';
    if (!array_at(answer, "keys_destroyed").empty())
        out << "destroyed the keys " << joined(array_at(answer, "keys_destroyed")) << '\n';
}

} // namespace dek::ctl
