// SPDX-License-Identifier: Apache-2.0
// One copy of the header: encoded and sealed, decoded without trust, verified under the key.
#include <algorithm>
#include <cstring>

#include "volume/header.h"
#include "volume/layout.h"
#include "volume/payload.h"
#include "volume/rule.h"
#include "volume/seal.h"
#include "volume/sniff.h"

namespace dek::volume {
namespace {

template <class T>
T load(Bytes bytes, std::size_t at = 0) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

bool all_zero(Bytes bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

std::size_t map_end(const CopyHead& head) {
    return sizeof(CopyHead) + head.map_count.get() * sizeof(MapEntry);
}

Result<void> check_structure(const CopyHead& head, Bytes copy) {
    if (head.map_count.get() > max_ranges)
        return broken(Rule::map_count);
    const std::size_t text_at = map_end(head);
    if (text_at > copy.size() || head.json_size.get() > copy.size() - text_at)
        return broken(Rule::json_size);
    if (!all_zero(head.reserved))
        return broken(Rule::reserved);
    if (!all_zero(copy.subspan(text_at + head.json_size.get())))
        return broken(Rule::padding);
    return {};
}

Result<void> read_map(const CopyHead& head, Bytes copy, std::vector<EncryptedRange>& ranges) {
    for (std::size_t i = 0; i < head.map_count.get(); ++i) {
        const auto entry = load<MapEntry>(copy, sizeof(CopyHead) + i * sizeof(MapEntry));
        if (!all_zero(entry.reserved))
            return broken(Rule::map_reserved);
        ranges.push_back({{entry.first.get(), entry.count.get()}, entry.key.get()});
    }
    return {};
}

// `copy` is whole: its SHA-256 holds.
Result<Header> read_header(Bytes copy) {
    const auto head = load<CopyHead>(copy);
    if (head.version.get() != copy_version)
        return broken(Rule::version, std::to_string(head.version.get()));
    Header header;
    header.incompatible = head.incompatible.get();
    header.readonly_compatible = head.readonly_compatible.get();
    header.sequence = head.sequence.get();
    if ((header.incompatible & ~known_incompatible) != 0)
        return broken(Rule::incompatible, "flags " + std::to_string(header.incompatible));
    auto done = check_structure(head, copy);
    if (done)
        done = read_map(head, copy, header.ranges);
    if (done) {
        const char* text = reinterpret_cast<const char*>(copy.data()) + map_end(head);
        done = read_payload({text, head.json_size.get()}, !writable(header), header);
    }
    if (done)
        done = validate(header);
    if (!done) // what validate() calls an invalid argument contradicts itself when it was read
        return fail(done.error().code == Errc::invalid_argument ? Errc::corrupt : done.error().code,
                    done.error().reason);
    return header;
}

std::vector<std::uint8_t> lay_out(const Header& header, const std::string& text) {
    CopyHead head{};
    std::memcpy(head.magic, copy_magic, sizeof copy_magic);
    const std::size_t used = sizeof head + header.ranges.size() * sizeof(MapEntry) + text.size();
    std::vector<std::uint8_t> copy((used + copy_step - 1) / copy_step * copy_step);
    head.version.set(copy_version);
    head.size.set(static_cast<std::uint32_t>(copy.size()));
    head.incompatible.set(header.incompatible);
    head.readonly_compatible.set(header.readonly_compatible);
    head.sequence.set(header.sequence);
    head.map_count.set(static_cast<std::uint32_t>(header.ranges.size()));
    head.json_size.set(static_cast<std::uint32_t>(text.size()));
    std::memcpy(copy.data(), &head, sizeof head);
    std::size_t at = sizeof head;
    for (const EncryptedRange& range : header.ranges) {
        MapEntry entry{};
        entry.first.set(range.lbas.first);
        entry.count.set(range.lbas.count);
        entry.key.set(range.key);
        std::memcpy(copy.data() + at, &entry, sizeof entry);
        at += sizeof entry;
    }
    std::memcpy(copy.data() + at, text.data(), text.size());
    return copy;
}

// The HMAC first: the SHA-256 covers it.
void seal(std::vector<std::uint8_t>& copy, const Header& header, const Secret& key) {
    const Digest mac = copy_hmac(copy, header.uuid, key);
    std::copy(mac.begin(), mac.end(), copy.begin() + offsetof(CopyHead, hmac));
    const Digest sum = copy_sha256(copy);
    std::copy(sum.begin(), sum.end(), copy.begin() + offsetof(CopyHead, sha256));
}

} // namespace

Sniffed sniff(Bytes bytes) {
    if (bytes.size() < sizeof(CopyHead) ||
        std::memcmp(bytes.data(), copy_magic, sizeof copy_magic) != 0)
        return {};
    Sniffed found;
    const auto head = load<CopyHead>(bytes);
    const std::size_t size = head.size.get();
    found.state = CopyState::torn;
    found.flaw = Rule::size;
    if (size < copy_step || size > copy_max_bytes || size % copy_step != 0 || size > bytes.size())
        return found;
    found.flaw = Rule::digest;
    if (!equal(copy_sha256(bytes.first(size)), head.sha256))
        return found;
    found.state = CopyState::valid;
    found.bytes = bytes.first(size);
    found.sequence = head.sequence.get();
    return found;
}

Result<Copy> decode(Bytes bytes) {
    const Sniffed found = sniff(bytes);
    if (found.state != CopyState::valid)
        return broken(found.flaw);
    auto header = read_header(found.bytes);
    if (!header)
        return tl::unexpected<Error>(header.error());
    return Copy{std::move(*header), {found.bytes.begin(), found.bytes.end()}};
}

Result<std::vector<std::uint8_t>> encode(const Header& header, const Secret& first_key) {
    if (!writable(header) || (header.incompatible & ~known_incompatible) != 0)
        return broken(Rule::incompatible, "its header is not rewritten", Errc::unsupported);
    if (auto valid = validate(header); !valid)
        return tl::unexpected<Error>(valid.error());
    if (!key_matches(header.keys.front(), first_key))
        return fail(Errc::wrong_key, "the key given is not key " + header.keys.front().id +
                                         ", which guards the header");
    auto copy = lay_out(header, payload_text(header));
    if (copy.size() > copy_max_bytes)
        return broken(Rule::json_size, "", Errc::invalid_argument);
    seal(copy, header, first_key);
    // The re-key state is written in another form than it was given in: it must still fit its rule.
    if (const auto again = decode(copy); !again)
        return fail(Errc::invalid_argument, again.error().reason);
    return copy;
}

Result<void> verify(const Copy& copy, const Secret& first_key) {
    const Bytes bytes = copy.bytes;
    const Sniffed found = sniff(bytes);
    if (found.state != CopyState::valid || found.bytes.size() != bytes.size() ||
        copy.header.keys.empty())
        return broken(Rule::digest);
    if (!key_matches(copy.header.keys.front(), first_key))
        return fail(Errc::wrong_key, "the key given is not key " + copy.header.keys.front().id +
                                         ", which guards the header");
    const auto head = load<CopyHead>(bytes);
    if (!equal(copy_hmac(bytes, copy.header.uuid, first_key), head.hmac))
        return fail(Errc::corrupt,
                    "the header is not what the holder of its key wrote: it or its map "
                    "was edited on disk");
    return {};
}

} // namespace dek::volume
