// SPDX-License-Identifier: Apache-2.0
#include "block_view.h"

#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "fields.h"
#include "printable.h"
#include "table.h"

namespace dek::ctl {
namespace {

using Field = std::pair<std::string, std::string>; // name and value, both printable

std::string range_text(const Json& range) {
    return text_at(range, "first") + "-" + text_at(range, "last");
}

// "3 (Associate)": a member NAME_text explains the member NAME.
std::string explained(const Json& block, const std::string& name, const Json& value) {
    const std::string note = name + "_text";
    return text_of(value) +
           (has(block, note.c_str()) ? " (" + text_at(block, note.c_str()) + ")" : "");
}

void add_fields(std::vector<Field>& fields, const std::string& prefix, const Json& block) {
    for (const auto& [member, value] : block.items()) {
        const std::string name = prefix + printable(member);
        if (member == "hex" ||
            (member.ends_with("_text") && block.contains(member.substr(0, member.size() - 5))))
            continue;
        if (value.is_object())
            add_fields(fields, name + ".", value);
        else if (value.is_array())
            for (std::size_t i = 0; i < value.size(); ++i)
                fields.emplace_back(name + "[" + std::to_string(i) + "]", value[i].is_object()
                                                                              ? range_text(value[i])
                                                                              : text_of(value[i]));
        else
            fields.emplace_back(name, explained(block, member, value));
    }
}

std::vector<Field> fields_of(const Json& answer, const char* which) {
    std::vector<Field> fields;
    // As they lie in the block, beginning with what it is.
    add_fields(fields, "",
               ordered(object_at(answer, which), {"verdict",
                                                  "version",
                                                  "opcode",
                                                  "status",
                                                  "endpoint_id",
                                                  "controller_handle",
                                                  "checksum",
                                                  "class_name",
                                                  "random1",
                                                  "random2",
                                                  "association",
                                                  "blob_offset",
                                                  "key_id_offset",
                                                  "app_info_offset",
                                                  "map_offset",
                                                  "blob_length",
                                                  "blob_type",
                                                  "key_length",
                                                  "algorithm",
                                                  "mode",
                                                  "key_data",
                                                  "nonce",
                                                  "tag",
                                                  "kek_name",
                                                  "key_id",
                                                  "data_unit",
                                                  "tweak_rule",
                                                  "device_origin",
                                                  "logical_origin",
                                                  "chunk",
                                                  "stripes",
                                                  "leg",
                                                  "map"}));
    return fields;
}

int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// As hexdump(1) prints it: 16 bytes a line, lines like the one before as one '*'.
void print_hex(std::ostream& out, const std::string& hex) {
    std::string before;
    bool starred = false;
    for (std::size_t at = 0; at < hex.size(); at += 32) {
        const std::string row = hex.substr(at, 32);
        if (row == before) {
            out << (starred ? "" : "    *\n");
            starred = true;
            continue;
        }
        before = row;
        starred = false;
        char offset[32];
        std::snprintf(offset, sizeof(offset), "    %04zx ", at / 2);
        out << offset;
        for (std::size_t i = 0; i < row.size(); i += 2)
            out << ' ' << row.substr(i, 2);
        out << '\n';
    }
}

void print_bytes(std::ostream& out, const Json& answer, const char* which) {
    const std::string hex = text_at(object_at(answer, which), "hex");
    bool sound = hex.size() % 2 == 0;
    for (const char c : hex)
        sound &= digit(c) >= 0;
    out << '\n' << which << ":\n";
    if (sound)
        print_hex(out, hex);
    else
        out << "    not there\n";
}

} // namespace

void print_endpoints(std::ostream& out, const Json& answer) {
    Table table({"UUID", "NAME", "ENGINE", ">FIRST", ">COUNT", ">UNIT", ">RANGES", ">ASSOC",
                 "FENCE", "DEVICE"});
    for (const Json& e : array_at(answer, "endpoints")) {
        const bool unmapped = number_at(e, "map_generation") == std::uint64_t{0};
        table.add({text_at(e, "uuid"), text_at(e, "name"), text_at(e, "engine"),
                   text_at(e, "first"), text_at(e, "count"), text_at(e, "data_unit"),
                   unmapped ? "unmapped" : text_at(e, "ranges"), text_at(e, "associations"),
                   text_at(e, "fence") + (flag_at(e, "recovering") ? ", recovering" : ""),
                   text_at(e, "device")});
    }
    if (table.empty())
        out << "no endpoints\n";
    else
        table.print(out);
    Table missing({"MISSING", "ENGINE", "FENCE", "MULTIPATH", "DEVICE"});
    for (const Json& leg : array_at(answer, "missing"))
        missing.add({text_at(leg, "name"), text_at(leg, "engine"), text_at(leg, "fence"),
                     text_at(leg, "multipath"), text_at(leg, "device")});
    if (!missing.empty())
        missing.print(out);
}

void print_exchange(std::ostream& out, const Json& answer, bool hex) {
    const std::vector<Field> command = fields_of(answer, "command");
    std::vector<Field> response = fields_of(answer, "response");
    Table table({"FIELD", "COMMAND", "RESPONSE"});
    for (const auto& [name, value] : command) {
        std::string answered = "-";
        for (auto it = response.begin(); it != response.end(); ++it) {
            if (it->first != name)
                continue;
            answered = it->second;
            response.erase(it);
            break;
        }
        table.add({name, value, answered});
    }
    for (const auto& [name, value] : response)
        table.add({name, "-", value});
    table.print(out);
    if (!hex)
        return;
    print_bytes(out, answer, "command");
    print_bytes(out, answer, "response");
}

} // namespace dek::ctl
