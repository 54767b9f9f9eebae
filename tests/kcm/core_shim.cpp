// SPDX-License-Identifier: Apache-2.0
#include "core_shim.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace kcmtest {

using namespace dek;
using namespace dek::kcm;

namespace {

template <class Page>
void empty(Page& page) {
    page.count = page.more = 0;
    std::memset(page.entry, 0, sizeof page.entry);
}

} // namespace

CoreShim::CoreShim() {
    ops_.key_set = on_key;
    ops_.key_drop = [](void*, dek_association*) {};
    ops_.random = [](void*, void* out, std::size_t n) { (void)!::getrandom(out, n, 0); };
}

dek_status CoreShim::on_key(void* self, dek_association* a) {
    auto* shim = static_cast<CoreShim*>(self);
    if (shim->associates_left == 0)
        return DEK_NO_MEMORY;
    shim->associates_left--;
    shim->keys.emplace_back(a->key, a->key + a->key_length);
    return DEK_OK;
}

std::shared_ptr<dek_endpoint> CoreShim::endpoint_of(const dek_ioc_volume& v, bool recovering) {
    dek_endpoint_config config{};
    std::memcpy(config.uuid, v.uuid, sizeof config.uuid);
    config.first = v.offset;
    config.count = v.count;
    config.data_unit = v.data_unit;
    config.class_name = DEK_CLASS_EHBA;
    config.recovering = recovering;
    config.max_associations = 4096;
    config.max_ranges = 65536;
    config.engine = DEK_ENGINE_CPU;
    config.ops = &ops_;
    config.shim = this;
    return {dek_endpoint_create(&config), [](dek_endpoint* ep) {
                if (ep)
                    dek_endpoint_destroy(ep);
            }};
}

void CoreShim::restart() {
    const std::lock_guard lock(mutex_);
    life_++;
    for (auto& [uuid, volume] : volumes_)
        volume.endpoint = endpoint_of(volume.config, true);
}

void CoreShim::recovered() {
    const std::lock_guard lock(mutex_);
    for (auto& [uuid, volume] : volumes_) {
        auto change = std::make_unique<dek_change>();
        std::memset(change.get(), 0, sizeof *change);
        const int error = dek_endpoint_recovered(volume.endpoint.get(), change.get());
        settle(volume.endpoint.get(), error, *change, nullptr);
    }
}

// Nobody reads, so what is published may be reclaimed at once and drains are over when they begin.
int CoreShim::settle(dek_endpoint* ep, int error, dek_change& change, __u8* block) {
    if (change.next)
        dek_endpoint_published(ep, &change);
    dek_change_reclaim(&change);
    if (change.hold && change.drain_count) {
        auto after = std::make_unique<dek_change>();
        dek_endpoint_drained(ep, change.hold, block, after.get());
        if (after->next)
            dek_endpoint_published(ep, after.get());
        dek_change_reclaim(after.get());
    }
    return error < 0 ? -error : 0;
}

CoreShim::Volume* CoreShim::find(const __u8* bytes) {
    Uuid uuid;
    std::memcpy(uuid.data(), bytes, uuid.size());
    const auto found = volumes_.find(uuid);
    return found == volumes_.end() ? nullptr : &found->second;
}

int CoreShim::version(dek_ioc_version& v) const {
    std::memset(&v, 0, sizeof v);
    v.abi = DEK_ABI_VERSION;
    v.kind = DEK_SHIM_FUSE;
    v.engines = engines;
    v.caps = DEK_CAP_VOLUMES;
    v.blob_types = 1u << DEK_BLOB_UNWRAPPED;
    v.life = life_;
    std::strcpy(v.build, "core in process");
    std::strcpy(v.engine_name, "none");
    return 0;
}

int CoreShim::command(dek_ioc_command& c) {
    auto* v = find(c.uuid);
    if (!v)
        return ENOENT;
    commands++;
    if (busy > 0) {
        busy--;
        dek_block_answer(c.block, DEK_BUSY);
        return 0;
    }
    auto change = std::make_unique<dek_change>();
    std::memset(change.get(), 0, sizeof *change);
    dek_endpoint_command(v->endpoint.get(), c.block, change.get());
    return settle(v->endpoint.get(), 0, *change, c.block);
}

int CoreShim::list(dek_ioc_list& page) {
    Uuid cursor;
    std::memcpy(cursor.data(), page.cursor, cursor.size());
    empty(page);
    auto at = volumes_.upper_bound(cursor);
    for (; at != volumes_.end() && page.count < DEK_LIST_PAGE; ++at) {
        auto& entry = page.entry[page.count++];
        dek_endpoint_describe(at->second.endpoint.get(), &entry);
        entry.logical_block = at->second.config.logical_block;
        entry.engines = entry.engine;
        std::memcpy(entry.name, at->second.config.name, sizeof entry.name);
        std::memcpy(entry.device, at->second.config.device, sizeof entry.device - 1);
    }
    page.more = at != volumes_.end();
    return 0;
}

int CoreShim::ranges(dek_ioc_ranges& page) {
    auto* v = find(page.uuid);
    if (!v)
        return ENOENT;
    empty(page);
    dek_range_entry next;
    const auto* snapshot = dek_endpoint_current(v->endpoint.get());
    while (dek_snapshot_next(snapshot, page.cursor, &next)) {
        if (page.count == DEK_RANGES_PAGE) {
            page.more = 1;
            break;
        }
        page.entry[page.count++] = next;
        page.cursor = next.first + next.count;
    }
    return 0;
}

int CoreShim::associations(dek_ioc_associations& page) {
    auto* v = find(page.uuid);
    if (!v)
        return ENOENT;
    empty(page);
    dek_association_entry next;
    std::uint64_t above = page.cursor;
    while (dek_endpoint_next_association(v->endpoint.get(), above, &next)) {
        if (page.count == DEK_ASSOCIATIONS_PAGE) {
            page.more = 1;
            break;
        }
        page.entry[page.count++] = next;
        above = next.handle;
    }
    return 0;
}

int CoreShim::tokens(dek_ioc_tokens& page) {
    auto* v = find(page.uuid);
    if (!v)
        return ENOENT;
    empty(page);
    dek_token_entry next;
    std::uint64_t above = page.cursor;
    while (page.count < DEK_TOKENS_PAGE &&
           dek_endpoint_next_token(v->endpoint.get(), above, &next)) {
        page.entry[page.count++] = next;
        above = next.token;
    }
    return 0;
}

int CoreShim::create(const dek_ioc_volume& v) {
    if (find(v.uuid))
        return EEXIST;
    for (const auto& [uuid, other] : volumes_)
        if (std::strcmp(other.config.device, v.device) == 0)
            return EBUSY;
    Uuid uuid;
    std::memcpy(uuid.data(), v.uuid, uuid.size());
    auto endpoint = endpoint_of(v, false);
    if (!endpoint)
        return EINVAL;
    volumes_[uuid] = {v, std::move(endpoint)};
    return 0;
}

std::uint64_t CoreShim::quiesce(const Uuid& uuid, std::uint64_t first, std::uint64_t count) {
    auto* v = find(uuid.data());
    auto change = std::make_unique<dek_change>();
    std::memset(change.get(), 0, sizeof *change);
    __u64 token = 0;
    const int error = dek_endpoint_quiesce(v->endpoint.get(), first, count, &token, change.get());
    settle(v->endpoint.get(), error, *change, nullptr);
    return token;
}

int CoreShim::call(unsigned long request, void* argument) {
    const std::lock_guard lock(mutex_);
    if (!up)
        return ENOTCONN;
    auto change = std::make_unique<dek_change>();
    std::memset(change.get(), 0, sizeof *change);
    Volume* v =
        request == DEK_IOC_VERSION || request == DEK_IOC_LIST || request == DEK_IOC_VOLUME_CREATE
            ? nullptr
            : find(static_cast<const __u8*>(argument));
    dek_endpoint* ep = v ? v->endpoint.get() : nullptr;
    switch (request) {
    case DEK_IOC_VERSION:
        return version(*static_cast<dek_ioc_version*>(argument));
    case DEK_IOC_LIST:
        return list(*static_cast<dek_ioc_list*>(argument));
    case DEK_IOC_VOLUME_CREATE:
        return create(*static_cast<dek_ioc_volume*>(argument));
    default:
        break;
    }
    if (!ep)
        return ENOENT;
    switch (request) {
    case DEK_IOC_COMMAND:
        return command(*static_cast<dek_ioc_command*>(argument));
    case DEK_IOC_RANGES:
        return ranges(*static_cast<dek_ioc_ranges*>(argument));
    case DEK_IOC_ASSOCIATIONS:
        return associations(*static_cast<dek_ioc_associations*>(argument));
    case DEK_IOC_TOKENS:
        return tokens(*static_cast<dek_ioc_tokens*>(argument));
    case DEK_IOC_MAP: {
        const int error = dek_endpoint_map(ep, static_cast<dek_ioc_map*>(argument), change.get());
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_QUIESCE: {
        auto* q = static_cast<dek_ioc_quiesce*>(argument);
        const int error = dek_endpoint_quiesce(ep, q->first, q->count, &q->token, change.get());
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_YIELD: {
        if (yields_left-- == 0)
            return EIO;
        const auto* y = static_cast<dek_ioc_yield*>(argument);
        const int error = dek_endpoint_yield(ep, y->token, y->first, y->count, change.get());
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_ENGINE: {
        const auto engine = static_cast<dek_ioc_engine*>(argument)->engine;
        return engine & ~DEK_ENGINE_CPU ? EOPNOTSUPP : -dek_endpoint_set_engine(ep, engine);
    }
    case DEK_IOC_FENCE: {
        const auto fence = static_cast<dek_fence>(static_cast<dek_ioc_fence*>(argument)->fence);
        const int error = dek_endpoint_set_fence(ep, fence, change.get());
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_RELEASE: {
        const auto token = static_cast<dek_ioc_release*>(argument)->token;
        const int error = dek_endpoint_release(ep, token, change.get());
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_VOLUME_RESIZE: {
        const auto count = static_cast<dek_ioc_volume_ref*>(argument)->count;
        const int error = dek_endpoint_resize(ep, count, change.get());
        if (error == 0)
            v->config.count = count;
        return settle(ep, error, *change, nullptr);
    }
    case DEK_IOC_VOLUME_REMOVE: {
        Uuid uuid;
        std::memcpy(uuid.data(), argument, uuid.size());
        volumes_.erase(uuid);
        return 0;
    }
    case DEK_IOC_STATS: {
        auto* s = static_cast<dek_ioc_stats*>(argument);
        std::memset(&s->reads, 0, sizeof *s - offsetof(dek_ioc_stats, reads));
        s->waiting = waiting;
        return 0;
    }
    default:
        return ENOTTY;
    }
}

Result<void> CoreBackend::create(Shim& shim, const NodeSpec& spec) {
    if (before_create)
        if (auto r = before_create(); !r)
            return r;
    dek_ioc_volume v;
    std::memset(&v, 0, sizeof v);
    std::memcpy(v.uuid, spec.uuid.data(), spec.uuid.size());
    v.offset = spec.offset;
    v.count = spec.size;
    v.data_unit = spec.data_unit;
    v.logical_block = spec.logical_block;
    spec.name.copy(v.name, sizeof v.name - 1);
    spec.device.copy(v.device, sizeof v.device - 1);
    if (answer_lost)
        (void)shim.volume_create(v);
    return shim.volume_create(v);
}

Result<Fd> CoreBackend::open(const NodeSpec& spec) {
    return Fd(::open((shows.empty() ? spec.device : shows).c_str(), O_RDONLY | O_CLOEXEC));
}

std::optional<std::string> CoreBackend::exposed(const NodeSpec& spec) {
    return ::access(node_of(spec).c_str(), F_OK) == 0 ? std::optional(node_of(spec)) : std::nullopt;
}

Result<std::string> CoreBackend::expose(const NodeSpec& spec) {
    if (expose_fails)
        return fail(Errc::io, "no block device today");
    const Fd fd(::open(node_of(spec).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return node_of(spec);
}

Result<void> CoreBackend::conceal(const NodeSpec& spec, std::chrono::milliseconds) {
    if (before_conceal)
        before_conceal();
    if (in_use)
        return fail(Errc::busy, "node is open");
    ::unlink(node_of(spec).c_str());
    return {};
}

Result<void> CoreBackend::remove(Shim& shim, const NodeSpec& spec, std::chrono::milliseconds) {
    auto done = shim.volume_remove(spec.uuid);
    return !done && done.error().code == Errc::not_found ? Result<void>() : done;
}

Result<Fd> CoreBackend::seize(const NodeSpec&, std::chrono::milliseconds) {
    return in_use ? fail(Errc::busy, "node is open") : Result<Fd>(Fd());
}

Result<void> CoreBackend::resize(Shim& shim, const NodeSpec& spec, std::uint64_t lbas) {
    return shim.volume_resize(spec.uuid, lbas);
}

} // namespace kcmtest
