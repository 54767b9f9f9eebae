// SPDX-License-Identifier: Apache-2.0
// Every rule a header can break: its name (docs/header.md lists them, tests break each) and its
// sentence.
#pragma once

#include <string>

#include "base/result.h"

namespace dek::volume {

enum class Rule {
    // Structure, in the order they are checked.
    magic,
    size,
    digest,
    version,
    incompatible,
    map_count,
    json_size,
    reserved,
    padding,
    map_reserved,
    // The JSON text.
    json_syntax,
    json_depth,
    json_duplicate,
    json_missing,
    json_unknown,
    json_type,
    json_value,
    // What it all says: also of headers about to be written.
    sequence,
    uuid,
    name,
    device_size,
    units,
    volume_size,
    volume_offset,
    header_place,
    endpoint,
    key_count,
    key_id,
    key_duplicate,
    key_provider,
    key_bits,
    range_count,
    range_empty,
    range_outside,
    range_order,
    range_alignment,
    range_header,
    range_key,
    rekey,
    features,
    // A backup's frame.
    backup_magic,
    backup_version,
    backup_size,
    backup_reserved,
    backup_digest,
    count_
};

const char* rule_name(Rule rule); // "range-order"
const char* rule_text(Rule rule); // its sentence
Errc rule_errc(Rule rule);        // when bytes that were read break it

// "SENTENCE: DETAIL (NAME)" with that rule's code, or another one.
tl::unexpected<Error> broken(Rule rule, const std::string& detail = "");
tl::unexpected<Error> broken(Rule rule, const std::string& detail, Errc code);

} // namespace dek::volume
