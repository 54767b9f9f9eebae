// SPDX-License-Identifier: Apache-2.0
// Backups of the header: one file each, and their way back onto the medium.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/durable.h"
#include "base/fd.h"
#include "volume/header.h"
#include "volume/layout.h"
#include "volume/medium.h"
#include "volume/rule.h"
#include "volume/seal.h"
#include "volume/survey.h"

namespace dek::volume {
namespace {

Bytes guarded(Bytes frame) {
    return frame.first(offsetof(BackupHead, sha256));
}

// What lies at the place now must not be lost, and must not be newer, unless force.
Result<void> check_replaced(const Survey& old, const Header& from) {
    if (!old.newest)
        return {};
    const Header& there = old.newest->header;
    if (there.uuid != from.uuid)
        return fail(Errc::refused, "the header of another volume, " + there.name + " (" +
                                       uuid_text(there.uuid) + "), lies there");
    if (from.sequence < there.sequence)
        return fail(Errc::refused, "the backup is older than the header that lies there: sequence "
                                   "number " +
                                       std::to_string(from.sequence) + ", there " +
                                       std::to_string(there.sequence));
    return {};
}

// A place without any trace of a header has to be blank.
Result<void> check_blank(const Location& at, const Survey& old) {
    if (old.newest || old.newest.error().code != Errc::not_found)
        return {};
    if (old.highest() != 0)
        return fail(Errc::refused, old.newest.error().reason);
    const auto place = read_bytes(at.fd, at.byte, journal_byte);
    if (!place)
        return tl::unexpected<Error>(place.error());
    if (std::any_of(place->begin(), place->end(), [](std::uint8_t byte) { return byte != 0; }))
        return fail(Errc::refused, "something that is no dekstack header lies where it is to go");
    return {};
}

Result<void> check_unforced(const Location& at, const Survey& old, const Header& from,
                            std::uint64_t device_lbas, std::uint64_t last_sequence) {
    if (from.device_lbas != device_lbas)
        return fail(Errc::refused, "the device has " + std::to_string(device_lbas) +
                                       " LBAs, and had " + std::to_string(from.device_lbas) +
                                       " when the backup was made");
    if (from.sequence < last_sequence)
        return fail(Errc::refused,
                    "the backup is older than the volume's last known header: sequence "
                    "number " +
                        std::to_string(from.sequence) + ", last known " +
                        std::to_string(last_sequence));
    if (auto replaced = check_replaced(old, from); !replaced)
        return replaced;
    return check_blank(at, old);
}

} // namespace

std::vector<std::uint8_t> encode_backup(const Copy& copy) {
    BackupHead head{};
    std::memcpy(head.magic, frame_magic, sizeof frame_magic);
    head.version.set(frame_version);
    head.size.set(static_cast<std::uint32_t>(copy.bytes.size()));
    std::vector<std::uint8_t> file(sizeof head + copy.bytes.size());
    std::memcpy(file.data(), &head, sizeof head);
    const Digest digest = sha256(guarded(file), copy.bytes);
    std::copy(digest.begin(), digest.end(), file.begin() + offsetof(BackupHead, sha256));
    std::copy(copy.bytes.begin(), copy.bytes.end(), file.begin() + sizeof head);
    return file;
}

Result<Copy> decode_backup(Bytes bytes) {
    BackupHead head{};
    if (bytes.size() < sizeof head)
        return broken(Rule::backup_size);
    std::memcpy(&head, bytes.data(), sizeof head);
    if (std::memcmp(head.magic, frame_magic, sizeof frame_magic) != 0)
        return broken(Rule::backup_magic);
    if (head.version.get() != frame_version)
        return broken(Rule::backup_version, std::to_string(head.version.get()));
    const Bytes inner = bytes.subspan(sizeof head);
    if (head.size.get() != inner.size() || bytes.size() > backup_max_bytes)
        return broken(Rule::backup_size);
    if (!equal(sha256(guarded(bytes), inner), head.sha256))
        return broken(Rule::backup_digest);
    if (std::any_of(std::begin(head.reserved), std::end(head.reserved),
                    [](std::uint8_t byte) { return byte != 0; }))
        return broken(Rule::backup_reserved);
    auto copy = decode(inner);
    if (!copy && copy.error().code == Errc::not_found)
        return fail(Errc::corrupt, copy.error().reason);
    if (copy && copy->bytes.size() != inner.size())
        return broken(Rule::backup_size);
    return copy;
}

Result<void> backup(const Location& at, const std::string& file, bool force) {
    const auto found = read(at);
    if (!found)
        return tl::unexpected<Error>(found.error());
    const auto bytes = encode_backup(found->copy);
    return force ? write_file_durably(file, bytes, 0600) : create_file_durably(file, bytes, 0600);
}

Result<Copy> read_backup(const std::string& file) {
    // Not blocking: a FIFO would never open.
    const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    struct stat info {};
    if (!fd || ::fstat(fd.get(), &info) != 0)
        return fail_errno(errno, file);
    if (!S_ISREG(info.st_mode))
        return fail(Errc::invalid_argument, file + " is no regular file");
    if (info.st_size > static_cast<off_t>(backup_max_bytes))
        return broken(Rule::backup_size);
    const auto bytes = read_bytes(fd.get(), 0, static_cast<std::size_t>(info.st_size));
    if (!bytes)
        return tl::unexpected<Error>(bytes.error());
    return decode_backup(*bytes);
}

Result<void> restore(const Location& at, const Copy& from, const Secret& first_key,
                     std::uint64_t device_lbas, std::uint64_t last_sequence, bool force) {
    if (auto verified = verify(from, first_key); !verified)
        return verified;
    if (auto fits = check_device(from.header, at, device_lbas); !fits)
        return fits;
    const auto old = survey(at);
    if (!old)
        return tl::unexpected<Error>(old.error());
    if (auto checked = check_unforced(at, *old, from.header, device_lbas, last_sequence);
        !force && !checked)
        return checked;
    Header header = from.header;
    header.device_lbas = device_lbas;
    header.sequence = std::max({from.header.sequence, old->highest(), last_sequence});
    if (header.sequence >= max_sequence)
        return fail(Errc::corrupt, "there is no sequence number left above the header that lies "
                                   "there: it has to be erased first");
    ++header.sequence;
    const auto copy = encode(header, first_key);
    if (!copy)
        return tl::unexpected<Error>(copy.error());
    return replace(at, *old, *copy);
}

} // namespace dek::volume
