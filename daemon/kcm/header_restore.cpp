// SPDX-License-Identifier: Apache-2.0
// Putting the backup of a header back.
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/controller.h"

namespace dek::kcm {
namespace {

Result<HeaderQuery> place_of(const volume::Header& header, const HeaderQuery& query) {
    if (query.lba || !query.file.empty())
        return query;
    if (header.place == volume::Place::detached)
        return fail(Errc::invalid_argument,
                    "this backup is of a detached header; --header says which file");
    return HeaderQuery{header.header_lba, ""};
}

// On the whole device: a header beside another volume's lies in that one's data.
Result<void> check_others(const Device& device, const HeaderQuery& place, const Uuid& uuid,
                          bool force) {
    if (!place.file.empty())
        return {};
    for (const auto& [lba, there] : probe_headers(device)) {
        if (!there && there.error().code == Errc::timeout)
            return tl::unexpected(there.error());
        if (force)
            continue;
        if (there && there->found.copy.header.uuid != uuid)
            return fail(Errc::refused, device.path + " holds another volume, " +
                                           there->found.copy.header.name + " (header at LBA " +
                                           std::to_string(lba) +
                                           "); --force puts this header there all the same");
        if (!there && lba != place.lba)
            return fail(Errc::refused,
                        there.error().reason + "; --force puts this header there all the same");
    }
    return {};
}

} // namespace

Result<void> Controller::restore_into(const Device& device, const HeaderQuery& query,
                                      const volume::Copy& backup, const Secret& key, bool force) {
    auto last = parts_.seat->with([&](keys::Keystore& store) {
        return store.header_sequence(volume::uuid_text(backup.header.uuid));
    });
    if (!last)
        return tl::unexpected(last.error());
    const std::uint64_t sequence = last->value_or(0);
    if (query.file.empty() || ::access(query.file.c_str(), F_OK) == 0) {
        auto site = header_site(device, query, Access::write);
        if (!site)
            return tl::unexpected(site.error());
        return volume::restore(site->location, backup, key, device.lbas, sequence, force);
    }
    const std::string fresh = sibling_name(query.file);
    const Fd fd(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    const auto size = static_cast<off_t>(volume::place_lbas(volume::Place::detached) * 512);
    if (!fd || ::ftruncate(fd.get(), size) != 0)
        return fail_errno(errno, "header file " + query.file + " cannot be made");
    auto done = volume::restore({fd.get(), 0, true}, backup, key, device.lbas, sequence, force);
    if (done)
        done = install_file_durably(fresh, query.file, true);
    if (!done)
        ::unlink(fresh.c_str());
    return done;
}

Result<volume::Copy> Controller::header_restore(const std::string& path, const HeaderQuery& query,
                                                const volume::Copy& backup, bool force) {
    if (auto r = guard_.admit(path); !r)
        return tl::unexpected(r.error());
    auto device = open_device(path, Access::write);
    if (!device)
        return tl::unexpected(device.error());
    auto place = place_of(backup.header, query);
    if (!place)
        return tl::unexpected(place.error());
    if (auto r = check_detached(*device, backup.header.uuid); !r)
        return tl::unexpected(r.error());
    const auto claimed = claim_unused(*device, parts_.kernel);
    if (!claimed)
        return tl::unexpected(claimed.error());
    auto key = parts_.keys->material(backup.header.keys.front());
    if (!key)
        return tl::unexpected(key.error());
    if (auto r = check_others(*device, *place, backup.header.uuid, force); !r)
        return tl::unexpected(r.error());
    if (auto r = restore_into(*device, *place, backup, *key, force); !r)
        return tl::unexpected(r.error());
    auto now = find_header(*device, *place, Access::read);
    if (!now)
        return tl::unexpected(now.error());
    if (auto r = remember_sequence(now->found.copy.header); !r)
        return tl::unexpected(r.error());
    log(Level::notice, "header-restored", {{"device", device->path}, {"header", now->site.text()}});
    return std::move(now->found.copy);
}

} // namespace dek::kcm
