// SPDX-License-Identifier: Apache-2.0
// Copies of a keystore: made whole beside their place, then renamed into it.
#include <cerrno>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/durable.h"
#include "keys/keystore_impl.h"

namespace dek::keys {
namespace {

enum class Presence { absent, present, same };

// Whether `path` is there, and whether it is the very file `other` is.
Presence presence_of(const std::string& path, const std::string& other) {
    struct stat a {};
    struct stat b {};
    if (::stat(path.c_str(), &a) != 0)
        return Presence::absent;
    const bool same =
        ::stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    return same ? Presence::same : Presence::present;
}

using Amend = std::function<Result<void>(Database&)>;

Result<void> copy_to(const Database& from, const std::string& to, bool replace,
                     const Amend& amend = {}) {
    auto fresh = FreshFile::beside(to);
    if (!fresh)
        return tl::unexpected(fresh.error());
    {
        auto copy = Database::open(fresh->path(), Database::Mode::scratch);
        if (!copy)
            return tl::unexpected(copy.error());
        if (auto copied = from.copy_into(*copy); !copied)
            return copied;
        if (amend)
            if (auto amended = amend(*copy); !amended)
                return amended;
    }
    return fresh->install(to, !replace);
}

// `compare`: "=" or "<>".
Result<std::set<std::string>> keys_where(const Database& database, const std::string& compare) {
    Statement select(database, "SELECT id FROM keys WHERE state " + compare + " 'destroyed'");
    std::set<std::string> ids;
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            return ids;
        ids.insert(select.text_at(0));
    }
}

using Sequences = std::map<std::string, std::uint64_t>; // by volume

Result<Sequences> sequences_of(const Database& database) {
    Statement select(database, "SELECT volume, sequence FROM header_sequences");
    Sequences sequences;
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            return sequences;
        sequences[select.text_at(0)] = static_cast<std::uint64_t>(select.number_at(1));
    }
}

// What a keystore knows that another one, put in its place, may not.
struct Knowledge {
    std::set<std::string> live;
    std::set<std::string> destroyed;
    Sequences sequences;

    static Result<Knowledge> of(const Database& database) {
        auto live = keys_where(database, "<>");
        auto destroyed = keys_where(database, "=");
        auto sequences = sequences_of(database);
        if (!live || !destroyed)
            return tl::unexpected(live ? destroyed.error() : live.error());
        if (!sequences)
            return tl::unexpected(sequences.error());
        return Knowledge{std::move(*live), std::move(*destroyed), std::move(*sequences)};
    }
    // Of the keystore at `path`. Nobody unseals it: what somebody wrote into it can make a restore
    // ask for force, no more.
    static Result<Knowledge> at(const std::string& path) {
        auto database = Database::open(path, Database::Mode::durable);
        if (!database)
            return tl::unexpected(database.error());
        if (auto checked = check_schema(*database); !checked)
            return tl::unexpected(checked.error());
        return of(*database);
    }
};

// The reason carries only what looks as it should.
void name(std::string& list, const std::string& what, bool fit) {
    list += (list.empty() ? "" : ", ") + (fit ? what : std::string("?"));
}

bool is_uuid(const std::string& text) {
    return text.size() == 36 &&
           text.find_first_not_of("0123456789abcdefABCDEF-") == std::string::npos;
}

Result<void> check_loss(const Knowledge& present, const Knowledge& backup) {
    std::string lost, alive, older;
    for (const std::string& id : present.live)
        if (backup.live.count(id) == 0)
            name(lost, id, check_key_id(id).has_value());
    for (const std::string& id : present.destroyed)
        if (backup.live.count(id) != 0)
            name(alive, id, check_key_id(id).has_value());
    for (const auto& [volume, sequence] : present.sequences) {
        const auto known = backup.sequences.find(volume);
        if (known == backup.sequences.end() || known->second < sequence)
            name(older, volume, is_uuid(volume));
    }
    if (!lost.empty())
        return fail(Errc::refused, "the backup lacks keys of the keystore: " + lost);
    if (!alive.empty())
        return fail(Errc::refused, "in the backup keys live that are destroyed: " + alive);
    if (!older.empty())
        return fail(Errc::refused,
                    "the backup knows older headers than the keystore, so that one put back would "
                    "be taken for the newest; of volumes: " +
                        older);
    return {};
}

Result<void> check_replacement(const Result<Knowledge>& present, const Database& replacement) {
    if (!present)
        return fail(Errc::refused, "the keystore to be replaced cannot be read, so nobody knows "
                                   "which keys would be lost: " +
                                       present.error().reason + "; --force replaces it");
    auto backup = Knowledge::of(replacement);
    if (!backup)
        return tl::unexpected(backup.error());
    return check_loss(*present, *backup);
}

// The higher number of the two for every volume: a header that was put back is told from the newest
// also after a restore.
Result<void> keep_sequences(const Sequences& present, Database& copy, ByteView store,
                            const MasterKeys& keys) {
    auto theirs = sequences_of(copy);
    if (!theirs)
        return tl::unexpected(theirs.error());
    auto transaction = Transaction::begin(copy);
    if (!transaction)
        return tl::unexpected(transaction.error());
    bool changed = false;
    for (const auto& [volume, sequence] : present) {
        const auto known = theirs->find(volume);
        if (!is_uuid(volume) || (known != theirs->end() && known->second >= sequence))
            continue;
        if (auto written = write_header_sequence(copy, volume, sequence); !written)
            return written;
        changed = true;
    }
    if (changed)
        if (auto rooted = update_root(copy, store, keys); !rooted)
            return rooted;
    return transaction->commit();
}

// Whatever state it is in, as long as it is one; and where nothing is lost.
bool may_be_replaced(const std::string& path) {
    std::error_code unknown;
    return has_keystore_mark(path) || (std::filesystem::is_regular_file(path, unknown) &&
                                       std::filesystem::file_size(path, unknown) == 0);
}

// SQLite rolls a journal back when it first reads. What it could not use must not stay either.
void settle_journal(const std::string& path) {
    if (auto database = Database::open(path, Database::Mode::durable))
        static_cast<void>(Statement(*database, "SELECT count(*) FROM sqlite_schema").step());
    ::unlink((path + "-journal").c_str());
}

} // namespace

Result<FreshFile> FreshFile::beside(const std::string& path) {
    const std::string name = sibling_name(path);
    const Fd file(::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, path + " cannot be created");
    return FreshFile(name);
}

FreshFile::~FreshFile() {
    if (!path_.empty())
        ::unlink(path_.c_str());
}

Result<void> FreshFile::install(const std::string& to, bool exclusive) {
    if (presence_of(to + "-journal", to) != Presence::absent) {
        settle_journal(to);
        if (auto synced = sync_directory_of(to); !synced)
            return synced;
    }
    auto installed = install_file_durably(path_, to, exclusive);
    if (installed)
        path_.clear();
    return installed;
}

Result<void> Keystore::backup(const std::string& to, bool force) {
    const Presence there = presence_of(to, impl_->path);
    if (there == Presence::same)
        return fail(Errc::invalid_argument, to + " is the keystore itself");
    if (there == Presence::present && !force)
        return fail(Errc::exists, to + " exists already");
    if (there == Presence::present && !may_be_replaced(to))
        return fail(Errc::exists, to + " is no keystore; it is not replaced, not even by force");
    return copy_to(impl_->database, to, force);
}

Result<void> Keystore::restore(const std::string& path, const std::string& from,
                               const Unsealer& with, bool force) {
    const Presence there = presence_of(path, from);
    if (there == Presence::same)
        return fail(Errc::invalid_argument, from + " is the keystore itself");
    auto lock = lock_keystore(path);
    if (!lock)
        return tl::unexpected(lock.error());
    auto source = Impl::open(from, Fd(), Database::Mode::read_only);
    if (!source)
        return tl::unexpected(source.error());
    auto fit = (*source)->unseal(with);
    if (fit)
        fit = verify_root((*source)->database, (*source)->store, *(*source)->keys);
    if (!fit)
        return fit;
    if (there == Presence::absent)
        return copy_to((*source)->database, path, false);
    const auto present = Knowledge::at(path);
    if (!force)
        if (auto harmless = check_replacement(present, (*source)->database); !harmless)
            return harmless;
    return copy_to((*source)->database, path, true, [&](Database& copy) -> Result<void> {
        if (!present)
            return {};
        return keep_sequences(present->sequences, copy, (*source)->store, *(*source)->keys);
    });
}

} // namespace dek::keys
