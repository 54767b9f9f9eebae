// SPDX-License-Identifier: Apache-2.0
// From what an unsealer holds to a key-encryption key, and the rows of `slots`.
#include "keys/slot.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/durable.h"
#include "base/fd.h"
#include "keys/recovery.h"

namespace dek::keys {
namespace {

constexpr std::size_t unsealer_size = 32;
constexpr std::size_t longest_passphrase = 4096;

bool has_control_characters(const std::string& text) {
    return std::any_of(text.begin(), text.end(),
                       [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Result<Secret> exactly_32(Result<Secret> read, const std::string& what) {
    if (read && read->size() != unsealer_size)
        return fail(Errc::invalid_argument, what + " does not hold exactly 32 bytes");
    return read;
}

// Somebody else's file, or one that others can read, protects nothing.
Result<Secret> file_secret(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file)
        return fail_errno(errno, path + " cannot be opened");
    struct stat about {};
    if (::fstat(file.get(), &about) != 0)
        return fail_errno(errno, path + " cannot be examined");
    if (!S_ISREG(about.st_mode))
        return fail(Errc::invalid_argument, path + " is not a regular file");
    if ((about.st_mode & 077) != 0 || (about.st_uid != 0 && about.st_uid != ::geteuid()))
        return fail(Errc::permission,
                    path + " must belong to root or the caller, and nobody else may have access");
    return exactly_32(read_secret(file.get(), unsealer_size, path), path);
}

Result<Secret> credential_secret(const std::string& name) {
    const char* directory = std::getenv("CREDENTIALS_DIRECTORY");
    if (directory == nullptr)
        return fail(Errc::not_found, "CREDENTIALS_DIRECTORY is not set: credential " + name +
                                         " was not handed over by systemd");
    const std::string path = std::string(directory) + '/' + name;
    return exactly_32(read_secret_file(path, unsealer_size, "credential " + name), path);
}

Result<Secret> passphrase_secret(const Secret& passphrase) {
    if (passphrase.empty())
        return fail(Errc::invalid_argument, "the passphrase is empty");
    if (passphrase.size() > longest_passphrase)
        return fail(Errc::invalid_argument, "the passphrase is longer than 4096 bytes");
    return passphrase.clone();
}

struct SecretReader {
    Result<Secret> operator()(const FileUnsealer& file) const { return file_secret(file.path); }
    Result<Secret> operator()(const CredentialUnsealer& credential) const {
        return credential_secret(credential.name);
    }
    Result<Secret> operator()(const PassphraseUnsealer& with) const {
        return passphrase_secret(with.passphrase);
    }
    Result<Secret> operator()(const RecoveryUnsealer& with) const {
        return recovery_key_of(with.text);
    }
};

Result<std::string> file_hint(const std::string& path) {
    std::error_code failed;
    const std::string absolute =
        std::filesystem::absolute(path, failed).lexically_normal().string();
    if (path.empty() || failed || has_control_characters(absolute))
        return fail(Errc::invalid_argument, "the path of the unsealing file cannot be used");
    return absolute;
}

Result<std::string> credential_hint(const std::string& name) {
    if (name.empty() || name.size() > 255 || name == "." || name == ".." ||
        name.find('/') != std::string::npos || has_control_characters(name))
        return fail(Errc::invalid_argument, "that is no name of a credential");
    return name;
}

AssociatedData binding_of(ByteView store, const Slot& slot) {
    AssociatedData bound("dekstack keystore slot 1");
    bound.bytes(store).number(slot.enrolment.slot).text(slot.enrolment.kind);
    bound.text(slot.enrolment.hint).number(slot.enrolment.created).bytes(slot.salt);
    bound.number(slot.cost.memory_kib).number(slot.cost.passes).number(slot.cost.lanes);
    return bound;
}

Result<Secret> slot_key(const Slot& slot, const Secret& secret) {
    if (slot.enrolment.kind == "passphrase")
        return argon2id(secret, slot.salt, slot.cost);
    return hkdf_sha256(secret, slot.salt, "dekstack keystore " + slot.enrolment.kind);
}

// A number that SQLite holds as 64 bits and we as 32: out of range is not in any slot we wrote.
std::uint32_t narrow(std::int64_t value) {
    return value < 0 || value > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(value);
}

} // namespace

const char* kind_of(const Unsealer& unsealer) {
    static constexpr const char* kinds[] = {"file", "credential", "passphrase", "recovery"};
    return kinds[unsealer.index()];
}

Result<std::string> hint_of(const Unsealer& unsealer) {
    if (const auto* file = std::get_if<FileUnsealer>(&unsealer))
        return file_hint(file->path);
    if (const auto* credential = std::get_if<CredentialUnsealer>(&unsealer))
        return credential_hint(credential->name);
    return std::string();
}

std::optional<Unsealer> unsealer_of(const Enrolment& enrolment) {
    if (enrolment.kind == "file")
        return FileUnsealer{enrolment.hint};
    if (enrolment.kind == "credential" && credential_hint(enrolment.hint))
        return CredentialUnsealer{enrolment.hint};
    return std::nullopt;
}

Result<Secret> unsealer_secret(const Unsealer& unsealer) {
    auto usable = hint_of(unsealer);
    if (!usable)
        return tl::unexpected(usable.error());
    return std::visit(SecretReader{}, unsealer);
}

Result<Secret> new_unsealer_secret(const Unsealer& unsealer) {
    const auto* file = std::get_if<FileUnsealer>(&unsealer);
    if (file == nullptr)
        return unsealer_secret(unsealer);
    auto path = file_hint(file->path);
    if (!path)
        return tl::unexpected(path.error());
    auto made = create_file_durably(*path, Secret::random(unsealer_size).bytes(), 0600);
    if (!made && made.error().code != Errc::exists)
        return tl::unexpected(made.error());
    return file_secret(*path);
}

Result<Slot> make_slot(ByteView store, const Enrolment& enrolment, const Secret& secret,
                       const Argon2Cost& cost, const Secret& master) {
    Slot slot{enrolment, random_bytes(32), {0, 0, 0}, {}};
    if (enrolment.kind == "passphrase")
        slot.cost = cost;
    auto key = slot_key(slot, secret);
    if (!key)
        return tl::unexpected(key.error());
    auto sealed = seal(*key, master.bytes(), binding_of(store, slot).view());
    if (!sealed)
        return tl::unexpected(sealed.error());
    slot.master = std::move(*sealed);
    return slot;
}

Result<Secret> open_slot(ByteView store, const Slot& slot, const Secret& secret) {
    auto key = slot_key(slot, secret);
    if (!key)
        return key;
    auto master = unseal(*key, slot.master, binding_of(store, slot).view());
    if (master && master->size() != wrap_key_size)
        return fail(Errc::wrong_key, "a sealed value has an impossible size");
    return master;
}

Result<std::vector<Slot>> read_slots(const Database& database) {
    Statement select(database, "SELECT slot, kind, hint, created, salt, memory_kib, passes, lanes, "
                               "nonce, sealed FROM slots ORDER BY slot");
    std::vector<Slot> slots;
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            return slots;
        Slot slot;
        slot.enrolment = {narrow(select.number_at(0)), select.text_at(1), select.text_at(2),
                          select.number_at(3)};
        slot.salt = select.blob_at(4);
        slot.cost = {narrow(select.number_at(5)), narrow(select.number_at(6)),
                     narrow(select.number_at(7))};
        slot.master = {select.blob_at(8), select.blob_at(9)};
        slots.push_back(std::move(slot));
    }
}

Result<void> insert_slot(const Database& database, const Slot& slot) {
    const Enrolment& enrolment = slot.enrolment;
    return Statement(database, "INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .number(1, enrolment.slot)
        .text(2, enrolment.kind)
        .text(3, enrolment.hint)
        .number(4, enrolment.created)
        .blob(5, slot.salt)
        .number(6, slot.cost.memory_kib)
        .number(7, slot.cost.passes)
        .number(8, slot.cost.lanes)
        .blob(9, slot.master.nonce)
        .blob(10, slot.master.text)
        .run();
}

} // namespace dek::keys
