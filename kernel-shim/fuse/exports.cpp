// SPDX-License-Identifier: Apache-2.0
#include "exports.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "connection.h"
#include "engine.h"

namespace dek::shim {
namespace {

constexpr int kHolderMs = 10000;

template <std::size_t N>
std::string_view text(const char (&field)[N]) {
    return {field, ::strnlen(field, N)};
}

bool valid_name(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-';
    };
    return !name.empty() && name.size() < DEK_NAME_SIZE && name[0] != '.' &&
           std::all_of(name.begin(), name.end(), allowed);
}

bool valid_block(std::uint32_t bytes) {
    return bytes >= 512 && bytes <= 4096 && std::has_single_bit(bytes);
}

} // namespace

std::string Exports::path_of(const Volume& volume) const {
    return settings_.volumes() + "/" + volume.name();
}

void Exports::sweep(std::vector<Message>& held) {
    const auto wanted = [&](const std::string& path) {
        for (unsigned i = 0; i < table_.size(); i++)
            if (table_.used(i) && path == settings_.volumes() + "/" + table_.at(i).config.name)
                return true;
        return false;
    };
    for (const std::string& path : mounts_beneath(settings_.volumes()))
        if (!wanted(path))
            unmount_lazily(path);
    std::error_code ignored;
    for (const auto& file : std::filesystem::directory_iterator(settings_.volumes(), ignored))
        if (!wanted(file.path()))
            ::unlink(file.path().c_str());
    std::erase_if(held, [&](const Message& m) {
        const bool stray = m.slot >= table_.size() || !table_.used(m.slot);
        if (stray)
            ask_holder(Word::drop, m.slot, {});
        return stray;
    });
}

// ---- a new life of an old volume ----

Backing Exports::find_backing(const Slot& slot, std::vector<Fd>& fds) {
    Backing backing;
    if (!fds.empty()) {
        backing.fd = std::move(fds.front());
        fds.erase(fds.begin());
        if (describe_backing(backing.fd.get(), backing) == 0)
            return backing;
        return {}; // the device is gone
    }
    // Nobody kept it open meanwhile, so the path may mean another device by now.
    const bool read_only = slot.config.flags & DEK_VOLUME_READONLY;
    if (open_backing(slot.config.device, read_only, backing) != 0 ||
        backing.identity != slot.identity ||
        backing.sectors < slot.config.offset + slot.config.count)
        return {};
    return backing;
}

// Is there a mount whose requests reach these descriptors, and can what the last worker left
// unanswered be had again?
bool Exports::still_serves(const std::vector<Fd>& fuse, const std::string& path) const {
    if (fuse.empty())
        return false;
    if (connection_over(fuse.front().get()))
        return false;
    const auto mounts = mounts_beneath(settings_.volumes());
    if (std::find(mounts.begin(), mounts.end(), path) == mounts.end())
        return false;
    return (resend_ && notify_resend(fuse.front().get())) || orderly_;
}

std::shared_ptr<Volume> Exports::revive(unsigned slot, std::vector<Fd> fds) {
    const Slot& s = table_.at(slot);
    auto volume = make_volume(slot, s.config, find_backing(s, fds), s.had_map, engine_ops(),
                              settings_.recover_ms);
    const std::string trouble = volume ? resume(volume, std::move(fds)) : "out of memory";
    if (trouble.empty())
        return volume;
    // Nobody would ever answer its users. With the last descriptor their connection ends, too.
    log(Level::error, "volume-lost",
        {{"volume", s.config.name},
         {"reason", trouble},
         {"effect", "it is gone; open files on it get errors"}});
    table_.erase(slot);
    take_down(slot, s.config.name);
    return nullptr;
}

// Empty, or why it cannot serve.
std::string Exports::resume(const std::shared_ptr<Volume>& volume, std::vector<Fd> fds) {
    const Slot& s = table_.at(volume->slot);
    volume->restarts = s.restarts;
    volume->flushes_unknown = s.flushes_unknown;
    volume->flush_failed = table_.flush_failed(volume->slot);
    volume->flushes = table_.flushes(volume->slot);
    volume->fuse = std::move(fds);
    if (!volume->backing.fd)
        log(Level::error, "device-lost",
            {{"volume", volume->name()},
             {"device", s.config.device},
             {"reason", "it is gone, in use or another one than before: all I/O fails"}});
    if (!still_serves(volume->fuse, path_of(*volume))) {
        log(Level::warning, "volume-remounted", {{"volume", volume->name()}});
        unmount_lazily(path_of(*volume));
        if (const int error = put_up(*volume))
            return std::string("it cannot be mounted: ") + std::strerror(error);
        if (!keep(*volume))
            return "nobody keeps its descriptors";
    }
    return attach(volume) ? "" : "no memory for its requests";
}

// ---- made, changed, removed by call ----

int Exports::check(const dek_ioc_volume& c) const {
    constexpr Uuid none{};
    if (c.reserved || (c.flags & ~(DEK_VOLUME_READONLY | DEK_VOLUME_NO_ENGINE)) ||
        c.fence > DEK_FENCE_HOLD || std::equal(none.begin(), none.end(), c.uuid))
        return EINVAL;
    if (!valid_name(text(c.name)) || text(c.device).size() >= DEK_PATH_SIZE || c.device[0] != '/')
        return EINVAL;
    if (!valid_block(c.data_unit) || !valid_block(c.logical_block) || c.logical_block < c.data_unit)
        return EINVAL;
    const std::uint64_t sectors = c.logical_block / 512;
    if (!c.count || c.count % sectors || c.offset % sectors)
        return EINVAL;
    constexpr std::uint64_t most = INT64_MAX / 512; // what a file offset can say
    if (c.offset > most || c.count > most - c.offset)
        return EINVAL;
    for (unsigned i = 0; i < table_.size(); i++)
        if (table_.used(i) && text(table_.at(i).config.name) == text(c.name))
            return EEXIST;
    return 0;
}

int Exports::check_device(const dek_ioc_volume& c, const Backing& backing) const {
    for (unsigned i = 0; i < table_.size(); i++)
        if (table_.used(i) && table_.at(i).identity == backing.identity)
            return EBUSY;
    if (c.logical_block < backing.logical_block)
        return EINVAL;
    return backing.sectors < c.offset + c.count ? ENXIO : 0;
}

int Exports::put_up(Volume& volume) {
    Mount mount;
    mount.path = path_of(volume);
    mount.root = S_IFREG | (volume.read_only ? 0400 : 0600);
    mount.resend = resend_;
    const Fd place(::open(mount.path.c_str(), O_CREAT | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!place)
        return errno;
    auto connection = mount_connection(mount, static_cast<unsigned>(lanes_.size()));
    if (!connection) {
        log_error("mount-failed", connection.error(), {{"volume", volume.name()}});
        ::unlink(mount.path.c_str());
        return EIO;
    }
    volume.fuse = std::move(connection->fds);
    return 0;
}

bool Exports::ask_holder(Word word, unsigned slot, const std::vector<int>& fds) {
    if (!send_message(holder_, word, slot, fds))
        return false;
    const auto reply = receive_message(holder_, kHolderMs);
    return reply && reply->word == Word::done;
}

bool Exports::keep(const Volume& volume) {
    std::vector<int> fds{volume.backing.fd.get()};
    if (!volume.backing.fd)
        fds.clear();
    for (const Fd& fd : volume.fuse)
        fds.push_back(fd.get());
    // Without its device a volume is not kept: the next worker looks for both afresh.
    return volume.backing.fd ? ask_holder(Word::keep, volume.slot, fds) : true;
}

bool Exports::attach(const std::shared_ptr<Volume>& volume) {
    for (std::size_t i = 0; i < lanes_.size(); i++) {
        if (lanes_[i]->attach(volume, volume->fuse[i % volume->fuse.size()].get()))
            continue;
        while (i--)
            lanes_[i]->detach(*volume);
        return false;
    }
    return true;
}

void Exports::take_down(unsigned slot, const std::string& name) {
    const std::string path = settings_.volumes() + "/" + name;
    unmount_lazily(path);
    ::unlink(path.c_str());
    ask_holder(Word::drop, slot, {});
}

int Exports::create(const dek_ioc_volume& config, std::shared_ptr<Volume>& out) {
    if (const int error = check(config))
        return error;
    const int slot = table_.find_free();
    if (slot < 0)
        return ENOSPC;
    Backing backing;
    if (const int error = open_backing(config.device, config.flags & DEK_VOLUME_READONLY, backing))
        return error;
    if (const int error = check_device(config, backing))
        return error;
    auto volume = make_volume(static_cast<unsigned>(slot), config, std::move(backing), false,
                              engine_ops(), 0);
    if (!volume)
        return ENOMEM;
    if (const int error = put_up(*volume))
        return error;
    table_.prepare(volume->slot, config, volume->backing.identity);
    volume->flush_failed = table_.flush_failed(volume->slot);
    volume->flushes = table_.flushes(volume->slot);
    if (!keep(*volume) || !attach(volume)) {
        take_down(volume->slot, volume->name());
        close_backing(volume->backing);
        return ENOMEM;
    }
    table_.commit(volume->slot);
    log(Level::info, "volume-created", {{"volume", volume->name()}, {"device", config.device}});
    out = volume;
    return 0;
}

int Exports::remove(Volume& volume) {
    if (!unmount_idle(path_of(volume), volume.fuse.front().get()))
        return EBUSY;
    table_.erase(volume.slot);
    for (auto& lane : lanes_)
        lane->detach(volume);
    ask_holder(Word::drop, volume.slot, {});
    ::unlink(path_of(volume).c_str());
    volume.fuse.clear();
    close_backing(volume.backing); // now, so that the device is free when the call returns
    log(Level::info, "volume-removed", {{"volume", volume.name()}});
    return 0;
}

int Exports::check_length(const Volume& volume, std::uint64_t count) {
    const std::uint64_t sectors = volume.logical_block / 512;
    constexpr std::uint64_t most = INT64_MAX / 512;
    if (!count || count % sectors || count > most - volume.first)
        return EINVAL;
    Backing now;
    if (!volume.backing.fd || describe_backing(volume.backing.fd.get(), now) != 0)
        return EIO;
    return now.sectors < volume.first + count ? ENXIO : 0;
}

void Exports::resized(Volume& volume) {
    table_.set_count(volume.slot, volume.config.count);
    notify_size(volume.fuse.front().get());
}

void Exports::fence_changed(Volume& volume) {
    table_.set_fence(volume.slot, volume.config.fence);
}

void Exports::engine_changed(Volume& volume) {
    table_.set_flags(volume.slot, volume.config.flags);
}

void Exports::has_map(Volume& volume) {
    if (!volume.mapped)
        table_.set_had_map(volume.slot);
    volume.mapped = true;
}

void Exports::grace() {
    for (auto& lane : lanes_)
        lane->grace();
}

void Exports::wake_waiting() {
    for (auto& lane : lanes_)
        lane->wake();
}

bool Exports::under_way(const Volume& volume, std::uint64_t epoch, const dek_range& range) {
    return std::any_of(lanes_.begin(), lanes_.end(), [&](auto& lane) {
        return lane->under_way(volume, epoch, range.first, range.count);
    });
}

} // namespace dek::shim
