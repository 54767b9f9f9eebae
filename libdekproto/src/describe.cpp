// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Describing blocks: one list of fields, rendered as text or as JSON.
#include <dek/describe.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include <dek/codec.h>

namespace dek {

namespace {

using Json = nlohmann::ordered_json;

struct Field {
    std::size_t offset;
    std::string name;
    Json value;
    std::string note; // for people, after the value
};

std::string hex64(std::uint64_t value) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "0x%016llx", static_cast<unsigned long long>(value));
    return text.data();
}

std::string hex_bytes(std::span<const std::uint8_t> bytes) {
    constexpr const char* digits = "0123456789abcdef";
    std::string text;
    for (std::uint8_t byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

// Opaque text that came from outside: as it is if that is harmless, otherwise "hex:" and its bytes.
std::string shown(std::span<const std::uint8_t> bytes) {
    bool plain =
        std::all_of(bytes.begin(), bytes.end(), [](auto b) { return b > ' ' && b <= '~'; });
    return plain ? std::string(bytes.begin(), bytes.end()) : "hex:" + hex_bytes(bytes);
}

const char* blob_type_text(unsigned type) {
    switch (type) {
    case DEK_BLOB_UNWRAPPED:
        return "unwrapped";
    case DEK_BLOB_WRAPPED:
        return "wrapped";
    case DEK_BLOB_KEYRING:
        return "keyring reference";
    }
    return "unknown";
}

// Collects the fields of one block. Uses the block's memory and keeps none of it but what may be
// shown.
class Description {
  public:
    explicit Description(const std::uint8_t* block) : block_(block) {
        verdict_ = dek_block_decode(block, &command_);
        bool readable = verdict_ != DEK_BAD_SIGNATURE && verdict_ != DEK_BAD_CHECKSUM;
        if (readable)
            header();
        if (verdict_ == DEK_OK)
            body();
    }

    dek_status verdict() const { return verdict_; }
    const std::vector<Field>& fields() const { return fields_; }

  private:
    void add(std::size_t offset, const char* name, Json value, std::string note = "") {
        fields_.push_back({offset, name, std::move(value), std::move(note)});
    }

    std::size_t offset_of(const void* p) const {
        return static_cast<std::size_t>(static_cast<const std::uint8_t*>(p) - block_);
    }

    void header() {
        add(8, "checksum", dek_get_le32(block_ + 8));
        add(16, "version", command_.version);
        add(24, "opcode", command_.opcode, dek_opcode_text(command_.opcode));
        add(28, "status", command_.status, dek_status_text(command_.status));
        add(32, "endpoint_id", hex64(command_.endpoint_id));
        add(40, "controller_handle", hex64(command_.controller_handle));
    }

    void body() {
        switch (command_.opcode) {
        case DEK_OP_HANDSHAKE:
            return handshake();
        case DEK_OP_QUERY:
            return map(72);
        case DEK_OP_ASSOCIATE:
        case DEK_OP_UPDATE:
            return association();
        case DEK_OP_DISASSOCIATE:
            return add(48, "association", hex64(command_.association));
        }
    }

    // Of the randomness the ends, by which a person sees whether it was reversed.
    void random(std::size_t offset, const char* name, std::size_t size) {
        std::span<const std::uint8_t> bytes(block_ + offset, size);
        add(offset, name, hex_bytes(bytes.first(4)) + ".." + hex_bytes(bytes.last(4)),
            std::to_string(size) + " bytes");
    }

    void handshake() {
        const auto* name = reinterpret_cast<const std::uint8_t*>(command_.class_name);
        add(48, "class_name", shown({name, std::find(name, name + DEK_CLASS_NAME_SIZE, 0)}));
        random(512, "random1", DEK_RANDOM1_SIZE);
        random(1152, "random2", DEK_RANDOM2_SIZE);
    }

    void association() {
        add(48, "association", hex64(command_.association));
        add(56, "blob_offset", dek_get_le32(block_ + 56), command_.blob.present ? "" : "no blob");
        add(60, "key_id_offset", dek_get_le32(block_ + 60));
        add(64, "app_info_offset", dek_get_le32(block_ + 64));
        add(68, "map_offset", dek_get_le32(block_ + 68));
        if (command_.blob.present)
            blob();
        add(offset_of(command_.key_id), "key_id", shown({command_.key_id, command_.key_id_length}));
        geometry(dek_get_le32(block_ + 64));
        map(dek_get_le32(block_ + 68));
    }

    void blob() {
        const dek_blob& b = command_.blob;
        std::size_t at = dek_get_le32(block_ + 56);
        add(at, "blob_length", dek_get_le32(block_ + at));
        add(at + 4, "blob_type", b.type, blob_type_text(b.type));
        add(at + 9, "key_length", b.key_length, "bytes");
        add(at + 10, "algorithm", b.algorithm, "AES");
        add(at + 11, "mode", b.mode, "XTS");
        add(offset_of(b.key_data), "key_data", "not shown");
        if (b.type != DEK_BLOB_WRAPPED)
            return;
        const auto* kek = reinterpret_cast<const std::uint8_t*>(b.kek_name);
        add(offset_of(b.nonce), "nonce", hex_bytes({b.nonce, DEK_WRAP_NONCE_SIZE}));
        add(offset_of(b.tag), "tag", hex_bytes({b.tag, DEK_WRAP_TAG_SIZE}));
        add(offset_of(kek), "kek_name", shown({kek, b.kek_name_length}));
    }

    void geometry(std::size_t at) {
        const dek_geometry& g = command_.geometry;
        add(at, "data_unit", g.data_unit, "bytes");
        add(at + 4, "tweak_rule", g.tweak_rule, g.tweak_rule == DEK_TWEAK_UNIT ? "unit" : "lba512");
        add(at + 8, "device_origin", g.device_origin);
        add(at + 16, "logical_origin", g.logical_origin);
        add(at + 24, "chunk", g.chunk, g.chunk ? "LBAs" : "not striped");
        add(at + 28, "stripes", g.stripes);
        add(at + 30, "leg", g.leg);
    }

    void map(std::size_t at) {
        Json ranges = Json::array();
        for (std::uint32_t i = 0; i < command_.map_count; i++) {
            dek_range r = dek_command_range(&command_, i);
            ranges.push_back(
                {{"first", r.first}, {"last", r.first + r.count - 1}, {"count", r.count}});
        }
        add(at, "map", std::move(ranges));
    }

    const std::uint8_t* block_;
    dek_command command_;
    dek_status verdict_;
    std::vector<Field> fields_;
};

std::string line(std::size_t offset, const std::string& name, const std::string& value) {
    std::array<char, 48> start{};
    std::snprintf(start.data(), start.size(), "%6zu  %-18s  ", offset, name.c_str());
    return start.data() + value + "\n";
}

std::string value_text(const Field& field) {
    std::string value =
        field.value.is_string() ? field.value.get<std::string>() : field.value.dump();
    return field.note.empty() ? value : value + " (" + field.note + ")";
}

std::string map_text(const Field& field) {
    std::string text = line(field.offset, "map_count", std::to_string(field.value.size()));
    std::size_t at = field.offset + 4;
    for (const Json& range : field.value) {
        text += line(at, "range",
                     range["first"].dump() + "-" + range["last"].dump() + " (" +
                         range["count"].dump() + " LBAs)");
        at += sizeof(dek_wire_range);
    }
    return text;
}

} // namespace

std::string describe_text(std::span<const std::uint8_t, DEK_BLOCK_SIZE> block) {
    Description description(block.data());
    std::string text;
    for (const Field& field : description.fields())
        text += field.value.is_array() ? map_text(field)
                                       : line(field.offset, field.name, value_text(field));
    if (description.verdict() != DEK_OK)
        text += std::string("rejected: ") + dek_status_text(description.verdict()) + "\n";
    return text;
}

nlohmann::ordered_json describe_json(std::span<const std::uint8_t, DEK_BLOCK_SIZE> block) {
    Description description(block.data());
    Json out;
    out["verdict"] = dek_status_text(description.verdict());
    for (const Field& field : description.fields()) {
        out[field.name] = field.value;
        if (field.name == "opcode" || field.name == "status" || field.name == "tweak_rule" ||
            field.name == "blob_type")
            out[field.name + "_text"] = field.note;
    }
    return out;
}

} // namespace dek
