// SPDX-License-Identifier: Apache-2.0
// Which of two copies is the header, and in which order they are replaced.
#include "volume/survey.h"

#include <algorithm>
#include <optional>
#include <string>

#include <fcntl.h>

#include "volume/medium.h"
#include "volume/rule.h"
#include "volume/sniff.h"

namespace dek::volume {
namespace {

// A header tells where it lies, so that a partition's is not taken for the whole disk's.
Result<Copy> belonging(Result<Copy> copy, const Location& at) {
    if (copy && copy->header.place != Place::detached && copy->header.header_lba * 512 != at.byte)
        return fail(Errc::not_found, "the dekstack header here says that it belongs at LBA " +
                                         std::to_string(copy->header.header_lba) +
                                         ": it is of a partition or of another device");
    return copy;
}

Result<Copy> newest_of(const std::array<Sniffed, 2>& found, const Location& at) {
    const Sniffed &a = found[0], &b = found[1];
    const bool whole_a = a.state == CopyState::valid, whole_b = b.state == CopyState::valid;
    if (!whole_a && !whole_b)
        return a.state == CopyState::empty && b.state == CopyState::empty
                   ? broken(Rule::magic)
                   : broken(a.state == CopyState::torn ? a.flaw : b.flaw,
                            "neither copy is whole; dekctl header restore puts a backup there");
    if (whole_a && whole_b && a.sequence == b.sequence && !std::ranges::equal(a.bytes, b.bytes))
        return fail(Errc::corrupt, "the two copies of the header have the same sequence number and "
                                   "differ: one of them was edited on disk");
    // Both are decoded: what tearing cannot explain is not got around by taking the other one.
    std::array<Result<Copy>, 2> copies{fail(Errc::not_found, ""), fail(Errc::not_found, "")};
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (found[i].state != CopyState::valid)
            continue;
        copies[i] = decode(found[i].bytes);
        if (!copies[i])
            return std::move(copies[i]);
    }
    const std::size_t newest = whole_b && (!whole_a || b.sequence > a.sequence) ? 1 : 0;
    return belonging(std::move(copies[newest]), at);
}

Result<void> write_durably(int fd, std::uint64_t byte, std::span<const std::uint8_t> bytes) {
    if (auto written = write_bytes(fd, byte, bytes); !written)
        return written;
    return make_durable(fd);
}

// A copy that was torn loses its magic first: its missing sectors may be among those that are
// written now, and a second crash would complete a header that nobody knows of any more.
Result<void> clear_torn(const Location& at, std::uint64_t byte, CopyState state,
                        std::size_t block) {
    if (state != CopyState::torn)
        return {};
    if (auto cleared = write_zeros(at.fd, byte, block); !cleared)
        return cleared;
    return make_durable(at.fd);
}

// Nobody sees a header until its first block, which has the magic, is there.
Result<void> write_head_last(const Location& at, std::uint64_t byte, std::size_t block,
                             std::span<const std::uint8_t> copy) {
    if (auto body = write_durably(at.fd, byte + block, copy.subspan(block)); !body)
        return body;
    return write_durably(at.fd, byte, copy.first(block));
}

} // namespace

const char* copy_state_name(CopyState state) {
    switch (state) {
    case CopyState::empty:
        return "empty";
    case CopyState::torn:
        return "torn";
    case CopyState::valid:
        break;
    }
    return "valid";
}

Result<Survey> survey(const Location& at) {
    std::array<std::vector<std::uint8_t>, 2> bytes;
    std::array<Sniffed, 2> found;
    // What is on the medium, not what a cache holds of it. From whole pages on, as they are read.
    const Fd direct = direct_again(at.fd, 0, O_RDONLY);
    for (std::size_t i = 0; i < found.size(); ++i) {
        auto read =
            read_bytes(direct ? direct.get() : at.fd, at.byte + copy_bytes[i], copy_max_bytes);
        if (!read)
            return tl::unexpected<Error>(read.error());
        bytes[i] = std::move(*read);
        found[i] = sniff(bytes[i]);
    }
    return Survey{{found[0].state, found[1].state},
                  {found[0].sequence, found[1].sequence},
                  newest_of(found, at)};
}

Result<void> replace(const Location& at, const Survey& old, const std::vector<std::uint8_t>& copy) {
    const auto block = atomic_bytes(at.fd);
    if (!block)
        return tl::unexpected<Error>(block.error());
    // Only in blocks that are written at once or not at all. A file that takes larger ones has no
    // header that shares one with data, and is safe to write through the page cache.
    Fd direct = direct_again(at.fd, at.byte, O_RDWR);
    if (direct && atomic_bytes(direct.get()).value_or(0) != *block)
        direct.reset();
    const Location to{direct ? direct.get() : at.fd, at.byte, at.header_file};
    const std::size_t first = old.newest && old.sequences[0] > old.sequences[1] ? 1 : 0;
    for (const std::size_t i : {first, 1 - first}) {
        const std::uint64_t byte = at.byte + copy_bytes[i];
        auto done = clear_torn(to, byte, old.states[i], *block);
        if (done)
            done = !old.newest && i == first ? write_head_last(to, byte, *block, copy)
                                             : write_durably(to.fd, byte, copy);
        if (!done)
            return done;
    }
    return {};
}

Result<Found> read(const Location& at) {
    auto looked = survey(at);
    if (!looked)
        return tl::unexpected<Error>(looked.error());
    if (!looked->newest)
        return tl::unexpected<Error>(looked->newest.error());
    const auto [a, b] = looked->states;
    return Found{std::move(*looked->newest), a != CopyState::valid || b != CopyState::valid, a, b};
}

Result<void> write(const Location& at, const Header& header, const Secret& first_key) {
    const auto copy = encode(header, first_key);
    if (!copy)
        return tl::unexpected<Error>(copy.error());
    if (header.place != Place::detached && header.header_lba * 512 != at.byte)
        return fail(Errc::invalid_argument, "the header is to be written elsewhere than it says");
    const auto old = survey(at);
    if (!old)
        return tl::unexpected<Error>(old.error());
    if (!old->newest && old->newest.error().code != Errc::not_found)
        return tl::unexpected<Error>(old->newest.error());
    if (!old->newest && old->highest() != 0)
        return fail(Errc::exists, old->newest.error().reason + "; it has to be erased first");
    if (old->newest && old->newest->header.uuid != header.uuid)
        return fail(Errc::exists,
                    "the header of another volume, " + old->newest->header.name + ", lies there");
    if (header.sequence <= old->highest())
        return fail(Errc::refused,
                    "the header on the medium is as new as the one to be written, or "
                    "newer: its sequence number is " +
                        std::to_string(old->highest()));
    return replace(at, *old, *copy);
}

Result<std::uint64_t> overwrite(const Location& at, Header header, const Secret& first_key) {
    if (header.place != Place::detached && header.header_lba * 512 != at.byte)
        return fail(Errc::invalid_argument, "the header is to be written elsewhere than it says");
    const auto old = survey(at);
    if (!old)
        return tl::unexpected<Error>(old.error());
    if (old->highest() >= max_sequence)
        return fail(Errc::corrupt, "there is no sequence number left above the header that lies "
                                   "there: it has to be erased first");
    header.sequence = std::max(header.sequence, old->highest() + 1);
    const auto copy = encode(header, first_key);
    if (!copy)
        return tl::unexpected<Error>(copy.error());
    if (auto done = replace(at, *old, *copy); !done)
        return tl::unexpected<Error>(done.error());
    const std::uint64_t rest = place_lbas(header.place) * 512 - journal_byte;
    auto cleared = write_zeros(at.fd, at.byte + journal_byte, rest);
    if (cleared)
        cleared = make_durable(at.fd);
    return cleared ? Result<std::uint64_t>(header.sequence)
                   : tl::unexpected<Error>(cleared.error());
}

Result<bool> has_trace(const Location& at) {
    const auto found = survey(at);
    if (!found)
        return tl::unexpected<Error>(found.error());
    return found->states[0] != CopyState::empty || found->states[1] != CopyState::empty;
}

namespace {

struct OwnCopy {
    std::uint64_t byte = 0;
    std::uint64_t sequence = 0;
    std::size_t size = 0; // 0: torn, and nobody knows where it ends
};

// The byte of the device at which this copy's header says that it begins.
std::optional<std::uint64_t> begin_of(Bytes copy) {
    const auto read = decode(copy);
    if (!read || read->header.place == Place::detached)
        return std::nullopt;
    return read->header.header_lba * 512;
}

// Copies that lie where those of a header at `at` do, the one that is the header last; without the
// first copy of a header that begins just there. `misplaced`: also what says that it belongs
// elsewhere.
Result<std::vector<OwnCopy>> own_copies(const Location& at, bool misplaced) {
    const Fd direct = direct_again(at.fd, 0, O_RDONLY);
    std::vector<OwnCopy> own;
    for (const std::uint64_t offset : copy_bytes) {
        const std::uint64_t byte = at.byte + offset;
        const auto bytes = read_bytes(direct ? direct.get() : at.fd, byte, copy_max_bytes);
        if (!bytes)
            return tl::unexpected<Error>(bytes.error());
        const Sniffed found = sniff(*bytes);
        if (found.state == CopyState::empty)
            continue;
        const auto begin = begin_of(found.bytes);
        if (!begin || *begin == at.byte || (misplaced && *begin != byte))
            own.push_back({byte, found.sequence, found.bytes.size()});
    }
    if (own.size() == 2 && own[0].sequence >= own[1].sequence)
        std::swap(own[0], own[1]);
    return own;
}

// Of each the magic goes first, which is all there is to say of a torn one.
Result<void> zero_copies(const Location& at, const std::vector<OwnCopy>& copies) {
    const auto block = atomic_bytes(at.fd);
    if (!block)
        return tl::unexpected<Error>(block.error());
    for (const auto& copy : copies) {
        if (auto done = write_zeros(at.fd, copy.byte, *block); !done)
            return done;
        if (auto done = make_durable(at.fd); !done)
            return done;
    }
    for (const auto& copy : copies)
        if (auto done = write_zeros(at.fd, copy.byte, copy.size); !done)
            return done;
    return make_durable(at.fd);
}

// What a header claims of itself does not decide how much is zeroed beyond the 256 KiB of any.
std::uint64_t end_of_place(const Location& at, const Survey& old) {
    const bool leading = old.newest && old.newest->header.place == Place::leading;
    return place_lbas(leading || at.header_file ? Place::leading : Place::in_place) * 512;
}

// Whether a copy of another header begins in the place: then what lies between is not this one's.
Result<bool> is_shared(const Location& at, std::uint64_t end) {
    const Fd direct = direct_again(at.fd, 0, O_RDONLY);
    const auto place = read_bytes(direct ? direct.get() : at.fd, at.byte, end);
    if (!place)
        return tl::unexpected<Error>(place.error());
    for (std::uint64_t byte = 512; byte < end; byte += 512) {
        const Bytes rest = Bytes(*place).subspan(byte);
        const Sniffed found = sniff(rest.first(std::min(rest.size(), copy_max_bytes)));
        if (found.state == CopyState::valid &&
            (byte != copy_b_byte || begin_of(found.bytes) == at.byte + byte))
            return true;
    }
    return false;
}

} // namespace

Result<bool> erase_copies(const Location& at) {
    const auto own = own_copies(at, false);
    if (!own)
        return tl::unexpected<Error>(own.error());
    return zero_copies(at, *own).map([&] { return !own->empty(); });
}

Result<void> erase(const Location& at) {
    const auto old = survey(at);
    if (!old)
        return tl::unexpected<Error>(old.error());
    const std::uint64_t end = end_of_place(at, *old);
    const auto shared = is_shared(at, end);
    if (!shared)
        return tl::unexpected<Error>(shared.error());
    const auto own = own_copies(at, true);
    if (!own)
        return tl::unexpected<Error>(own.error());
    auto done = zero_copies(at, *own);
    if (!done || *shared)
        return done;
    if (auto zeroed = write_zeros(at.fd, at.byte, end); !zeroed)
        return zeroed;
    return make_durable(at.fd);
}

std::vector<std::uint64_t> probe_lbas(std::uint64_t device_lbas) {
    std::vector<std::uint64_t> lbas;
    if (device_lbas < header_lbas)
        return lbas;
    const std::uint64_t last = device_lbas - header_lbas;
    for (const std::uint64_t lba : {std::uint64_t{0}, std::uint64_t{1024}, last, last / 8 * 8})
        if (lba <= last && std::find(lbas.begin(), lbas.end(), lba) == lbas.end())
            lbas.push_back(lba);
    return lbas;
}

} // namespace dek::volume
