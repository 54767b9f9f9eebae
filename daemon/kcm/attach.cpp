// SPDX-License-Identifier: Apache-2.0
// From a header on a device to a volume at /dev/dek/NAME.
#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/controller.h"
#include "kcm/signature.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::milliseconds undo_patience{2000};
constexpr std::uint64_t look_lbas = 2048; // where swap and filesystems have their signatures

// The start of a volume, in memory and sparse up to its size: libblkid reads odd pieces, which a
// volume file refuses.
Result<Fd> start_of(int volume, std::uint64_t lbas) {
    Fd copy(::memfd_create("start of a volume", MFD_CLOEXEC));
    if (!copy || ::ftruncate(copy.get(), static_cast<off_t>(lbas * 512)) != 0)
        return fail_errno(errno, "no memory to look at the volume");
    const std::size_t n = std::min(lbas, look_lbas) * 512;
    void* buffer = ::mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, copy.get(), 0);
    if (buffer == MAP_FAILED)
        return fail_errno(errno, "no memory to look at the volume");
    std::size_t done = 0;
    while (done < n) {
        const ssize_t got =
            ::pread(volume, static_cast<char*>(buffer) + done, n - done, static_cast<off_t>(done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += static_cast<std::size_t>(got);
    }
    const int error = errno;
    ::munmap(buffer, n);
    return done == n ? Result<Fd>(std::move(copy))
                     : fail_errno(error, "the volume cannot be read through the shim");
}

// What to know of a header of which one copy could be read.
std::string torn_text(const volume::Found& found) {
    if (!found.torn)
        return "";
    const bool a = found.a != volume::CopyState::valid;
    return std::string("copy ") + (a ? "A" : "B") + " of its header is " +
           volume::copy_state_name(a ? found.a : found.b) +
           "; the next change of the header mends it";
}

// Some of what the map calls encrypted under the old key may be under the new one already.
Result<void> check_no_rekey(const volume::Header& header) {
    if (header.rekey_state.empty())
        return {};
    return fail(Errc::unsupported,
                "the key of volume " + header.name +
                    " is being changed, and this build of kcmd cannot go on with that; the build "
                    "that began the change (dekctl rekey), or a later one, can");
}

// Its size is all that tells a detached header's device from another one.
Result<void> check_size(const volume::Header& header, const Device& device, bool force) {
    if (header.place != volume::Place::detached || header.device_lbas == device.lbas || force)
        return {};
    return fail(Errc::refused,
                device.path + " has " + std::to_string(device.lbas) + " LBAs, and the device of " +
                    "volume " + header.name + " had " + std::to_string(header.device_lbas) +
                    " when its header was written: this may be another device; --force attaches "
                    "it, and dekctl resize makes the new size known");
}

// Opening it loads the module where it is not loaded yet; elsewhere the node leads nowhere.
bool has_device_mapper() {
    return ::access("/sys/class/misc/device-mapper", F_OK) == 0 ||
           Fd(::open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
}

} // namespace

Result<void> Controller::check_name_free(const std::string& name) {
    if (parts_.registry->find(name))
        return fail(Errc::exists, "a volume named " + name +
                                      " is attached already; dekctl detach " + name +
                                      " first, or choose another --name");
    std::error_code none;
    const auto status = std::filesystem::symlink_status(link_path(name), none);
    if (std::filesystem::exists(status) && !std::filesystem::is_symlink(status))
        return fail(Errc::exists, link_path(name) + " is there already, and is no link");
    return {};
}

Result<std::string> Controller::choose_shim(ShimChoice choice, const std::string& policy) {
    if (choice == ShimChoice::automatic)
        choice = parts_.options.shim;
    const ShimSite& chosen = choice == ShimChoice::kernel ? parts_.shims.of("kernel")
                             : choice == ShimChoice::fuse ? parts_.shims.of("fuse")
                                                          : parts_.shims.preferred();
    if (choice == ShimChoice::kernel && chosen.kind != "kernel")
        return fail(Errc::unsupported, "this kcmd knows no kernel shim");
    const bool dm_crypt = choice != ShimChoice::fuse && has_device_mapper();
    if (dm_crypt && policy == "never")
        return std::string("kernel");
    auto version = chosen.shim->version();
    if (!version && dm_crypt && choice == ShimChoice::automatic)
        return std::string("kernel"); // no endpoint answers
    if (!version)
        return tl::unexpected(version.error());
    const bool hardware = version->engines & (DEK_ENGINE_INLINE | DEK_ENGINE_ACCEL);
    if (chosen.kind == "kernel" || policy == "prefer" || (policy == "hardware-only" && hardware))
        return chosen.kind;
    if (dm_crypt)
        return std::string("kernel");
    return fail(Errc::unsupported,
                std::string(policy == "never" ? "endpoint policy never"
                                              : "there is no hardware engine, and "
                                                "endpoint policy hardware-only") +
                    " asks for dm-crypt, which needs device-mapper in the kernel");
}

Result<volume::Header> Controller::authenticated(const SitedHeader& sited) {
    const auto& copy = sited.found.copy;
    auto key = parts_.keys->material(copy.header.keys.front());
    if (!key)
        return tl::unexpected(key.error());
    if (auto genuine = volume::verify(copy, *key); !genuine)
        return fail(genuine.error().code, sited.site.text() + ": " + genuine.error().reason);
    return copy.header;
}

Result<volume::Header> Controller::read_current(const Device& device, const HeaderQuery& query,
                                                const Uuid& uuid) {
    auto sited = find_header(device, query, Access::read);
    if (!sited)
        return tl::unexpected(sited.error());
    if (sited->found.copy.header.uuid != uuid)
        return fail(Errc::refused, sited->site.text() + " holds the header of another volume now");
    auto header = authenticated(*sited);
    if (!header)
        return header;
    if (auto r = check_no_rekey(*header); !r)
        return tl::unexpected(r.error());
    if (auto r = check_sequence(*header, false); !r)
        return tl::unexpected(r.error());
    return header;
}

Result<void> Controller::check_sequence(const volume::Header& header, bool force) {
    auto last = parts_.seat->with([&](keys::Keystore& store) {
        return store.header_sequence(volume::uuid_text(header.uuid));
    });
    if (!last)
        return tl::unexpected(last.error());
    if (*last && header.sequence < **last && !force)
        return fail(Errc::refused,
                    "this header of volume " + header.name + " has sequence number " +
                        std::to_string(header.sequence) + ", and " + std::to_string(**last) +
                        " was seen before: somebody put an old one back; --force accepts it");
    return {};
}

Result<void> Controller::remember_sequence(const volume::Header& header) {
    return parts_.seat->with([&](keys::Keystore& store) {
        return store.remember_header_sequence(volume::uuid_text(header.uuid), header.sequence);
    });
}

std::vector<keys::KeyInfo> Controller::key_infos(const volume::Header& header) {
    std::vector<keys::KeyInfo> infos;
    for (const auto& key : header.keys) {
        auto info = parts_.keys->info(key.id);
        if (!info) {
            info = keys::KeyInfo{};
            info->id = key.id;
            info->bits = key.bits;
        }
        infos.push_back(std::move(*info));
    }
    return infos;
}

Result<void> Controller::check_swap_or_root(const Volume& volume) {
    if (volume.shim != "fuse")
        return {};
    auto fd = site(volume).backend->open(volume.node());
    if (!fd)
        return tl::unexpected(fd.error());
    auto start = start_of(fd->get(), volume.header.size);
    if (!start)
        return tl::unexpected(start.error());
    auto signatures = find_signatures(start->get(), 0, volume.header.size * 512, volume.name);
    if (!signatures)
        return tl::unexpected(signatures.error());
    for (const auto& s : *signatures)
        if (is_swap_or_root(s))
            return fail(Errc::refused,
                        "volume " + volume.name + " holds " + s.text() +
                            " of swap space or of the root filesystem, which do not belong on the "
                            "userspace shim (memory pressure can stop it); --force attaches it");
    return {};
}

Result<void> Controller::link(const Volume& volume) {
    const std::string fresh = sibling_name(link_path(volume.name));
    if (::symlink(volume.block_device.c_str(), fresh.c_str()) != 0)
        return fail_errno(errno, link_path(volume.name) + " cannot be made");
    if (::rename(fresh.c_str(), link_path(volume.name).c_str()) == 0)
        return {};
    const int error = errno;
    ::unlink(fresh.c_str());
    return fail_errno(error, link_path(volume.name) + " cannot be made");
}

void Controller::unlink(const std::string& name) {
    ::unlink(link_path(name).c_str());
}

void Controller::tell(const std::string& event, const Volume& volume) {
    log(Level::notice, event, {{"volume", volume.name}, {"device", volume.device}});
    parts_.event({{"event", event},
                  {"volume", volume.name},
                  {"uuid", volume::uuid_text(volume.header.uuid)}});
}

// An endpoint that is there already is somebody's, and not taken away when this goes wrong.
Result<void> Controller::check_unserved(const Volume& v) {
    auto served = site(v).shim->find(v.header.uuid);
    if (!served && v.shim == "kernel")
        return {}; // no module, no endpoint: dm-crypt
    if (!served)
        return tl::unexpected(served.error());
    if (*served)
        return fail(Errc::exists, "the shim has an endpoint for volume " + v.name + " (" +
                                      volume::uuid_text(v.header.uuid) + ") already");
    return {};
}

Result<void> Controller::bring_up(Volume& v, const KeyFinder& keys, bool force, Fd claim) {
    if (auto r = check_unserved(v); !r)
        return r;
    Undo undo;
    // One on a shim that has died would be taken for the new one's.
    if (auto r = site(v).backend->conceal(v.node(), undo_patience); !r)
        return r;
    if (auto r = records_.write(record_of(v, false)); !r)
        return r;
    undo.add([&] { records_.remove(v.name); });
    claim.reset();
    undo.add([&] { // first: one whose answer was lost is there all the same
        if (auto r = site(v).backend->remove(*site(v).shim, v.node(), undo_patience); !r)
            log_error("endpoint-not-removed", r.error(), {{"volume", v.name}});
    });
    if (auto r = put_in_service(v, keys, undo); !r)
        return r;
    if (!force)
        if (auto r = check_swap_or_root(v); !r)
            return r;
    auto node = site(v).backend->expose(v.node());
    if (!node)
        return tl::unexpected(node.error());
    v.block_device = *node;
    undo.add([&] { (void)site(v).backend->conceal(v.node(), undo_patience); });
    if (auto r = link(v); !r)
        return r;
    undo.add([&] { unlink(v.name); });
    if (auto r = records_.write(record_of(v, true)); !r)
        return r;
    undo.done();
    v.verified = true;
    v.state = VolumeState::up;
    v.keys = key_infos(v.header);
    parts_.registry->publish(v);
    tell("volume-attached", v);
    return {};
}

// Every check there is; the keys it takes are in `ring`.
Result<Volume> Controller::examine(const AttachRequest& request, const Device& device,
                                   KeyRing& ring) {
    auto sited = find_header(device, request.header, Access::read);
    if (!sited)
        return tl::unexpected(sited.error());
    const auto& seen = sited->found.copy.header;
    if (auto r = volume::check_device(seen, sited->site.location, device.lbas); !r)
        return tl::unexpected(r.error());
    if (auto r = check_size(seen, device, request.force); !r)
        return tl::unexpected(r.error());
    if (auto r = check_detached(device, seen.uuid); !r)
        return tl::unexpected(r.error());
    Volume v;
    v.name = request.name.empty() ? seen.name : request.name;
    if (!volume::name_is_valid(v.name))
        return fail(Errc::invalid_argument, "\"" + v.name + "\" cannot be the name of a volume");
    if (auto r = check_name_free(v.name); !r)
        return tl::unexpected(r.error());
    if (auto r = check_unused(device, parts_.kernel); !r)
        return tl::unexpected(r.error());
    auto shim = choose_shim(request.shim, seen.endpoint_policy);
    if (!shim)
        return tl::unexpected(shim.error());
    v.shim = *shim;
    auto header = authenticated(*sited);
    if (!header)
        return tl::unexpected(header.error());
    if (auto r = check_no_rekey(*header); !r)
        return tl::unexpected(r.error());
    if (auto r = check_sequence(*header, request.force); !r)
        return tl::unexpected(r.error());
    for (const auto& key : header->keys) {
        auto material = parts_.keys->material(key);
        if (!material)
            return tl::unexpected(material.error());
        ring[key.id] = std::move(*material);
    }
    v.header = *header;
    v.device = device.path;
    v.identity = device.identity();
    v.header_file = sited->site.file;
    v.reason = torn_text(sited->found);
    v.read_only = device.read_only || !volume::writable(*header);
    return v;
}

Result<VolumePtr> Controller::attach(const AttachRequest& request) {
    if (auto r = guard_.admit(request.device); !r)
        return tl::unexpected(r.error());
    auto device = open_device(request.device, Access::write);
    if (!device && (device.error().code == Errc::permission || device.error().code == Errc::io)) {
        device = open_device(request.device, Access::read); // a write-protected disk
        if (device)
            device->read_only = true;
    }
    if (!device)
        return tl::unexpected(device.error());
    KeyRing ring; // all of them before anything changes
    auto v = examine(request, *device, ring);
    if (!v)
        return tl::unexpected(v.error());
    const bool older = !check_sequence(v->header, false); // by force: only once it is in service
    if (auto r = older ? Result<void>() : remember_sequence(v->header); !r)
        return tl::unexpected(r.error());
    const auto from_ring = [&](const volume::HeaderKey& key) -> Result<Secret> {
        return ring.at(key.id).clone();
    };
    if (auto up = bring_up(*v, from_ring, request.force, Fd()); !up)
        return tl::unexpected(up.error());
    if (older)
        if (auto r = remember_sequence(v->header); !r)
            log_error("sequence-not-remembered", r.error(), {{"volume", v->name}});
    return parts_.registry->find(v->name);
}

} // namespace dek::kcm
