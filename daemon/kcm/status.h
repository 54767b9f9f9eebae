// SPDX-License-Identifier: Apache-2.0
// What is told about volumes, the shim and keys, as the JSON of docs/dbus.md. Never a key.
#pragma once

#include <nlohmann/json.hpp>

#include "kcm/key_service.h"
#include "kcm/shims.h"
#include "kcm/volume.h"

namespace dek::kcm {

using nlohmann::json;

std::string hex64(std::uint64_t value); // endpoint IDs and lives fill 64 bits: "0x00a1..."
json handle_json(std::uint64_t handle); // handles are small; one beyond 2^53 comes in hexadecimal

// With what the shim says of it now, where it answers.
json volume_json(const Volume& volume, Shim& shim, const std::string& dev_dir);
json shim_json(const ShimSite& site);
json endpoints_json(const std::vector<dek_list_entry>& endpoints);
json key_json(const keys::KeyInfo& info, const std::string& provider);
json engines_json(std::uint32_t engines);
const char* engine_text(std::uint32_t engine); // "inline", "accel", "cpu", "none"
const char*
range_state_text(std::uint32_t state); // "plain", "keyed", "fenced", "yielded", "reserved"

// Who encrypts for a volume: "endpoint" (its own), "endpoints" (beneath it), "software".
const char* encryptor_word(layers::Encryptor who);
// One sentence: the decision, and what stood in the way of another one.
std::string encryptor_why(const Volume& volume);

// Layers from the top, and a table in which every LBA of the volume stands exactly once.
Result<json> topology_json(const Volume& volume, Shim& shim, const std::string& dev_dir,
                           const std::map<Uuid, LegGuard>& guards = {});

} // namespace dek::kcm
