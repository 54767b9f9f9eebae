// SPDX-License-Identifier: Apache-2.0
// Names, sentences and codes of the rules.
#include "volume/rule.h"

#include <array>

namespace dek::volume {
namespace {

struct Entry {
    Rule rule;
    const char* name;
    const char* text;
    Errc code = Errc::corrupt;
};

constexpr std::array entries{
    Entry{Rule::magic, "magic", "there is no dekstack header here", Errc::not_found},
    Entry{Rule::size, "size", "the header copy's size cannot be"},
    Entry{Rule::digest, "digest", "the header copy is torn or damaged"},
    Entry{Rule::version, "version", "the header is of a version this program does not know",
          Errc::unsupported},
    Entry{Rule::incompatible, "incompatible",
          "the volume uses a feature this program does not know", Errc::unsupported},
    Entry{Rule::map_count, "map-count", "the header's map has too many ranges"},
    Entry{Rule::json_size, "json-size", "the header's text does not fit in the copy"},
    Entry{Rule::reserved, "reserved", "the header's reserved bytes are not zero"},
    Entry{Rule::padding, "padding", "the bytes after the header's text are not zero"},
    Entry{Rule::map_reserved, "map-reserved", "a map entry's reserved bytes are not zero"},
    Entry{Rule::json_syntax, "json-syntax", "the header's text is not JSON"},
    Entry{Rule::json_depth, "json-depth", "the header's text is nested too deeply"},
    Entry{Rule::json_duplicate, "json-duplicate", "the header's text has a member twice"},
    Entry{Rule::json_missing, "json-missing", "the header's text lacks a member"},
    Entry{Rule::json_unknown, "json-unknown", "the header's text has an unknown member"},
    Entry{Rule::json_type, "json-type", "a member of the header's text has the wrong type"},
    Entry{Rule::json_value, "json-value",
          "a member of the header's text has a value it cannot have"},
    Entry{Rule::sequence, "sequence", "the header's sequence number is out of bounds"},
    Entry{Rule::uuid, "uuid", "the volume's UUID is all zeros"},
    Entry{Rule::name, "name",
          "a volume's name is 1 to 64 of the characters A-Z a-z 0-9 . _ - and does not start with "
          "a dot"},
    Entry{Rule::device_size, "device-size", "the device's size is out of bounds"},
    Entry{Rule::units, "units",
          "the data unit and the logical block are powers of two from 512 to 4096, the block not "
          "smaller "
          "than the unit"},
    Entry{Rule::volume_size, "volume-size",
          "the volume is empty, is not a whole number of logical blocks, or does not fit on the "
          "device"},
    Entry{Rule::volume_offset, "volume-offset",
          "the volume does not start where its kind of header lets it start"},
    Entry{Rule::header_place, "header-place",
          "the header does not lie where its kind lies, or not inside the device"},
    Entry{Rule::endpoint, "endpoint",
          "the endpoint policy is none of prefer, hardware-only, never"},
    Entry{Rule::key_count, "key-count", "a header has 1 to 64 keys"},
    Entry{Rule::key_id, "key-id", "a key ID is 1 to 64 bytes of UTF-8 without control characters"},
    Entry{Rule::key_duplicate, "key-duplicate", "a key ID stands in the header twice"},
    Entry{Rule::key_provider, "key-provider",
          "a key provider's name is 1 to 64 of the characters A-Z a-z 0-9 . _ -"},
    Entry{Rule::key_bits, "key-bits", "a key has 256 or 512 bits"},
    Entry{Rule::range_count, "range-count", "a header holds at most 2048 encrypted ranges"},
    Entry{Rule::range_empty, "range-empty", "an encrypted range is empty"},
    Entry{Rule::range_outside, "range-outside", "an encrypted range ends outside the volume"},
    Entry{Rule::range_order, "range-order", "encrypted ranges overlap or are out of order"},
    Entry{
        Rule::range_alignment, "range-alignment",
        "an encrypted range does not start and end on the border of a data unit and logical block"},
    Entry{Rule::range_header, "range-header", "an encrypted range overlaps the header"},
    Entry{Rule::range_key, "range-key", "an encrypted range names a key the header does not have"},
    Entry{Rule::rekey, "rekey", "the re-key state is not a JSON object of at most 4096 bytes"},
    Entry{Rule::features, "features", "the feature flag and the re-key state do not agree"},
    Entry{Rule::backup_magic, "backup-magic", "the file is no backup of a dekstack header"},
    Entry{Rule::backup_version, "backup-version",
          "the backup is of a version this program does not know", Errc::unsupported},
    Entry{Rule::backup_size, "backup-size", "the backup is too short, too long or cut off"},
    Entry{Rule::backup_reserved, "backup-reserved", "the backup's reserved bytes are not zero"},
    Entry{Rule::backup_digest, "backup-digest", "the backup is damaged"},
};

constexpr bool in_order() {
    for (std::size_t i = 0; i < entries.size(); ++i)
        if (static_cast<std::size_t>(entries[i].rule) != i)
            return false;
    return entries.size() == static_cast<std::size_t>(Rule::count_);
}
static_assert(in_order(), "one entry for each rule, in the order of the enumeration");

const Entry& entry_of(Rule rule) {
    return entries[static_cast<std::size_t>(rule)];
}

} // namespace

const char* rule_name(Rule rule) {
    return entry_of(rule).name;
}
const char* rule_text(Rule rule) {
    return entry_of(rule).text;
}
Errc rule_errc(Rule rule) {
    return entry_of(rule).code;
}

tl::unexpected<Error> broken(Rule rule, const std::string& detail, Errc code) {
    std::string reason = rule_text(rule);
    if (!detail.empty())
        reason += ": " + detail;
    return fail(code, reason + " (" + rule_name(rule) + ")");
}

tl::unexpected<Error> broken(Rule rule, const std::string& detail) {
    return broken(rule, detail, rule_errc(rule));
}

} // namespace dek::volume
