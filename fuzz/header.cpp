// SPDX-License-Identifier: Apache-2.0
// Hostile headers: any bytes as a copy and as a backup; the same with magic, size and digests made
// right, so that what lies behind them is reached. What is accepted is valid, can be shown, and
// survives being written.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <nlohmann/json.hpp>

#include "volume/header.h"
#include "volume/layout.h"
#include "volume/seal.h"

namespace {

using namespace dek;
using namespace dek::volume;

void must(bool holds) {
    if (!holds)
        std::abort();
}

Secret key_of(std::uint32_t bits) {
    Secret key(bits / 8);
    std::fill(key.bytes().begin(), key.bytes().end(), std::uint8_t{7});
    return key;
}

// A key of ours in place of the first one: whoever has the key can write again what was read.
void check_rewrite(Header header) {
    if (!writable(header))
        return;
    HeaderKey& first = header.keys.front();
    const Secret key = key_of(first.bits);
    first.check_value = key_check_value(key, first.check_salt);
    const auto copy = encode(header, key);
    if (!copy) // numbers of the re-key state may need more room than they had
        return;
    const auto again = decode(*copy);
    must(again.has_value() && verify(*again, key).has_value());
    must(to_json(again->header) == to_json(header) && again->header.ranges == header.ranges);
}

void check(const Result<Copy>& copy) {
    if (!copy) {
        must(!copy.error().reason.empty());
        return;
    }
    must(validate(copy->header).has_value());
    must(!verify(*copy, key_of(512)).has_value());
    must(decode(copy->bytes)->bytes == copy->bytes);
    check_rewrite(copy->header);
}

std::vector<std::uint8_t> repaired(std::span<const std::uint8_t> bytes) {
    const std::size_t size = std::clamp((bytes.size() + copy_step - 1) / copy_step * copy_step,
                                        copy_step, copy_max_bytes);
    std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
    copy.resize(size);
    CopyHead head;
    std::memcpy(&head, copy.data(), sizeof head);
    std::memcpy(head.magic, copy_magic, sizeof copy_magic);
    head.version.set(copy_version);
    head.size.set(static_cast<std::uint32_t>(size));
    std::fill(std::begin(head.reserved), std::end(head.reserved), std::uint8_t{0});
    std::memcpy(copy.data(), &head, sizeof head);
    const Digest digest = copy_sha256(copy);
    std::copy(digest.begin(), digest.end(), copy.begin() + offsetof(CopyHead, sha256));
    return copy;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span bytes(data, size);
    check(decode(bytes));
    check(decode_backup(bytes));
    const auto copy = repaired(bytes);
    check(decode(copy));
    check(decode_backup(encode_backup({{}, copy})));
    return 0;
}
