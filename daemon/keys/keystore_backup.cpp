// SPDX-License-Identifier: Apache-2.0
// Copies of a keystore: made whole beside their place, then renamed into it.
#include <cerrno>
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

Result<void> copy_to(const Database& from, const std::string& to, bool replace) {
    auto fresh = FreshFile::beside(to);
    if (!fresh)
        return tl::unexpected(fresh.error());
    {
        auto copy = Database::open(fresh->path(), Database::Mode::scratch);
        if (!copy)
            return tl::unexpected(copy.error());
        if (auto copied = from.copy_into(*copy); !copied)
            return copied;
    }
    return fresh->install(to, !replace);
}

Result<std::set<std::string>> live_keys(const Database& database) {
    Statement select(database, "SELECT id FROM keys WHERE state <> 'destroyed'");
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

// The keys of the keystore at `path` that would be lost, in words; empty: none.
Result<std::string> only_in(const std::string& path, const Database& replacement) {
    auto database = Database::open(path, Database::Mode::durable);
    if (!database)
        return tl::unexpected(database.error());
    if (auto checked = check_schema(*database); !checked)
        return tl::unexpected(checked.error());
    auto theirs = live_keys(*database);
    auto ours = live_keys(replacement);
    if (!theirs || !ours)
        return tl::unexpected(theirs ? ours.error() : theirs.error());
    std::string lost;
    for (const std::string& id : *theirs)
        if (ours->count(id) == 0)
            lost += (lost.empty() ? "" : ", ") + (check_key_id(id) ? id : std::string("?"));
    return lost;
}

Result<void> check_loss(const std::string& path, const Database& replacement) {
    auto lost = only_in(path, replacement);
    if (!lost)
        return fail(Errc::refused, "the keystore to be replaced cannot be read, so nobody knows "
                                   "which keys would be lost: " +
                                       lost.error().reason);
    if (!lost->empty())
        return fail(Errc::refused, "the backup lacks keys of the keystore: " + *lost);
    return {};
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
        return fail_errno(errno, name + " cannot be created");
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
    if (fit && there == Presence::present && !force)
        fit = check_loss(path, (*source)->database);
    if (!fit)
        return fit;
    return copy_to((*source)->database, path, there == Presence::present);
}

} // namespace dek::keys
