// SPDX-License-Identifier: Apache-2.0
#include "kcm/shim.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/secret.h"

namespace dek::kcm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// 1, 2, 4 ... 100 ms, until the deadline.
class BackOff {
  public:
    explicit BackOff(milliseconds patience) : until_(Clock::now() + patience) {}
    bool wait() {
        if (Clock::now() >= until_)
            return false;
        std::this_thread::sleep_for(next_);
        next_ = std::min(next_ * 2, milliseconds(100));
        return true;
    }

  private:
    Clock::time_point until_;
    milliseconds next_{1};
};

bool is_gone(int error) {
    return error == ENOTCONN || error == ECONNABORTED || error == ENODEV || error == EBADFD;
}

template <class T>
T zeroed() {
    T value;
    std::memset(&value, 0, sizeof value);
    return value;
}

template <class T>
T addressed(const Uuid& uuid) {
    auto value = zeroed<T>();
    std::memcpy(value.uuid, uuid.data(), uuid.size());
    return value;
}

} // namespace

Shim::Shim(std::unique_ptr<ShimTransport> transport, milliseconds patience)
    : transport_(std::move(transport)), patience_(patience) {}

int Shim::connected() {
    if (connected_)
        return 0;
    const int error = transport_->connect();
    connected_ = error == 0;
    return error;
}

int Shim::call_once(unsigned long request, void* argument) {
    if (const int error = connected())
        return error == EACCES || error == EPERM || error == ETIMEDOUT ? error : ENOTCONN;
    const int error = transport_->call(request, argument);
    if (is_gone(error))
        connected_ = false;
    return error;
}

int Shim::call_patiently(unsigned long request, void* argument) {
    BackOff gone(patience_);
    for (;;) {
        const int error = call_once(request, argument);
        if (error == EINTR)
            continue;
        if (!is_gone(error))
            return error;
        if (Clock::now() - gave_up_ < std::chrono::seconds(1))
            return ENOTCONN;
        if (!gone.wait()) {
            gave_up_ = Clock::now();
            return ENOTCONN;
        }
    }
}

tl::unexpected<Error> Shim::no_answer(const std::string& what, int error) const {
    if (error == ETIMEDOUT)
        return fail(Errc::timeout, what + ": the shim stands still: it is there, but has not "
                                          "answered in time");
    return fail(Errc::unavailable,
                what + ": the shim does not answer (" + transport_->hint() + ")");
}

Result<void> Shim::call(unsigned long request, void* argument, const std::string& what) {
    const int error = call_patiently(request, argument);
    if (error == 0)
        return {};
    if (error == ENOTTY)
        return fail(Errc::unsupported, what + ": this shim does not have the call");
    if (error == ENOTCONN || error == ETIMEDOUT)
        return no_answer(what, error);
    return fail_errno(error, what);
}

Result<dek_ioc_version> Shim::version() {
    auto v = zeroed<dek_ioc_version>();
    if (auto r = call(DEK_IOC_VERSION, &v, "asking the shim for its version"); !r)
        return tl::unexpected(r.error());
    if (v.abi != DEK_ABI_VERSION)
        return fail(Errc::unsupported, "the shim speaks version " + std::to_string(v.abi) +
                                           " of the interface, kcmd " +
                                           std::to_string(DEK_ABI_VERSION));
    v.build[sizeof v.build - 1] = '\0';
    v.engine_name[sizeof v.engine_name - 1] = '\0';
    return v;
}

Result<std::uint64_t> Shim::life() {
    auto v = version();
    if (!v)
        return tl::unexpected(v.error());
    return v->life;
}

Result<void> Shim::command(const Uuid& uuid, std::span<std::uint8_t, DEK_BLOCK_SIZE> block) {
    Secret memory(sizeof(dek_ioc_command)); // it may carry a key
    auto* argument = reinterpret_cast<dek_ioc_command*>(memory.bytes().data());
    BackOff busy(busy_patience_);
    do {
        std::memcpy(argument->uuid, uuid.data(), uuid.size());
        std::memcpy(argument->block, block.data(), DEK_BLOCK_SIZE);
        if (auto r = call(DEK_IOC_COMMAND, argument, "sending a command to the shim"); !r)
            return r;
    } while (dek_get_le32(argument->block + offsetof(dek_wire_header, status)) == DEK_BUSY &&
             busy.wait());
    std::memcpy(block.data(), argument->block, DEK_BLOCK_SIZE);
    return {};
}

Result<void> Shim::map_page(dek_ioc_map& page) {
    BackOff busy(busy_patience_);
    int error = call_patiently(DEK_IOC_MAP, &page);
    page.flags = DEK_MAP_COMMIT; // what EAGAIN asks for: the map is in force, old I/O is on its way
    page.count = 0;
    std::memset(page.entry, 0, sizeof page.entry);
    while (error == EAGAIN && busy.wait())
        error = call_patiently(DEK_IOC_MAP, &page);
    const std::string what = "giving the shim the map of the volume";
    if (error == ENOTCONN || error == ETIMEDOUT)
        return no_answer(what, error);
    return error == 0 ? Result<void>() : fail_errno(error, what);
}

Result<void> Shim::map(const Uuid& uuid, std::uint64_t generation,
                       const std::vector<dek_map_entry>& ranges) {
    const auto page = std::make_unique<dek_ioc_map>();
    std::size_t done = 0;
    do {
        *page = addressed<dek_ioc_map>(uuid);
        page->generation = generation;
        page->count = static_cast<__u32>(std::min<std::size_t>(ranges.size() - done, DEK_MAP_PAGE));
        page->flags = (done == 0 ? DEK_MAP_BEGIN : 0) | DEK_MAP_ADD;
        std::copy_n(ranges.begin() + static_cast<std::ptrdiff_t>(done), page->count, page->entry);
        done += page->count;
        if (done == ranges.size())
            page->flags |= DEK_MAP_COMMIT;
        if (auto r = map_page(*page); !r)
            return r;
    } while (done < ranges.size());
    return {};
}

Result<std::vector<dek_list_entry>> Shim::list() {
    const auto page = std::make_unique<dek_ioc_list>(zeroed<dek_ioc_list>());
    std::vector<dek_list_entry> all;
    do {
        page->count = page->more = 0;
        if (auto r = call(DEK_IOC_LIST, page.get(), "asking the shim for its endpoints"); !r)
            return tl::unexpected(r.error());
        const auto n = std::min(page->count, DEK_LIST_PAGE);
        all.insert(all.end(), page->entry, page->entry + n);
        if (n > 0)
            std::memcpy(page->cursor, page->entry[n - 1].uuid, sizeof page->cursor);
        else
            break;
    } while (page->more);
    return all;
}

Result<std::optional<dek_list_entry>> Shim::find(const Uuid& uuid) {
    auto all = list();
    if (!all)
        return tl::unexpected(all.error());
    for (const auto& entry : *all)
        if (std::memcmp(entry.uuid, uuid.data(), uuid.size()) == 0)
            return entry;
    return std::optional<dek_list_entry>();
}

Result<std::vector<dek_range_entry>> Shim::ranges(const Uuid& uuid) {
    const auto page = std::make_unique<dek_ioc_ranges>(addressed<dek_ioc_ranges>(uuid));
    std::vector<dek_range_entry> all;
    do {
        page->count = page->more = 0;
        if (auto r = call(DEK_IOC_RANGES, page.get(), "asking the shim for ranges"); !r)
            return tl::unexpected(r.error());
        const auto n = std::min(page->count, DEK_RANGES_PAGE);
        all.insert(all.end(), page->entry, page->entry + n);
        if (n == 0)
            break;
    } while (page->more);
    return all;
}

std::string key_id_of(const dek_association_entry& a) {
    return {reinterpret_cast<const char*>(a.key_id),
            std::min<std::size_t>(a.key_id_length, sizeof a.key_id)};
}

Result<std::vector<dek_association_entry>> Shim::associations(const Uuid& uuid) {
    const auto page = std::make_unique<dek_ioc_associations>(addressed<dek_ioc_associations>(uuid));
    std::vector<dek_association_entry> all;
    do {
        page->count = page->more = 0;
        if (auto r = call(DEK_IOC_ASSOCIATIONS, page.get(), "asking the shim for associations"); !r)
            return tl::unexpected(r.error());
        const auto n = std::min(page->count, DEK_ASSOCIATIONS_PAGE);
        all.insert(all.end(), page->entry, page->entry + n);
        if (n == 0)
            break;
        page->cursor = page->entry[n - 1].handle;
    } while (page->more);
    return all;
}

Result<std::vector<dek_token_entry>> Shim::tokens(const Uuid& uuid) {
    const auto page = std::make_unique<dek_ioc_tokens>(addressed<dek_ioc_tokens>(uuid));
    std::vector<dek_token_entry> all;
    do {
        page->count = page->more = 0;
        if (auto r = call(DEK_IOC_TOKENS, page.get(), "asking the shim for tokens"); !r)
            return tl::unexpected(r.error());
        const auto n = std::min(page->count, DEK_TOKENS_PAGE);
        all.insert(all.end(), page->entry, page->entry + n);
        if (n == 0)
            break;
        page->cursor = page->entry[n - 1].token;
    } while (page->more);
    return all;
}

Result<void> Shim::release(const Uuid& uuid, std::uint64_t token) {
    auto argument = addressed<dek_ioc_release>(uuid);
    argument.token = token;
    return call(DEK_IOC_RELEASE, &argument, "releasing a quiesced range");
}

Result<std::uint64_t> Shim::quiesce(const Uuid& uuid, dek_range range) {
    auto argument = addressed<dek_ioc_quiesce>(uuid);
    argument.first = range.first;
    argument.count = range.count;
    if (auto r = call(DEK_IOC_QUIESCE, &argument, "holding a range"); !r)
        return tl::unexpected(r.error());
    return argument.token;
}

Result<void> Shim::yield(const Uuid& uuid, std::uint64_t token, dek_range range) {
    auto argument = addressed<dek_ioc_yield>(uuid);
    argument.token = token;
    argument.first = range.first;
    argument.count = range.count;
    return call(DEK_IOC_YIELD, &argument, "yielding a range");
}

Result<void> Shim::fence(const Uuid& uuid, std::uint32_t answer) {
    auto argument = addressed<dek_ioc_fence>(uuid);
    argument.fence = answer;
    return call(DEK_IOC_FENCE, &argument, "saying what a fence answers");
}

Result<void> Shim::engine(const Uuid& uuid, std::uint32_t engine) {
    auto argument = addressed<dek_ioc_engine>(uuid);
    argument.engine = engine;
    return call(DEK_IOC_ENGINE, &argument, "setting the engine of an endpoint");
}

Result<dek_ioc_stats> Shim::stats(const Uuid& uuid) {
    auto argument = addressed<dek_ioc_stats>(uuid);
    if (auto r = call(DEK_IOC_STATS, &argument, "asking the shim for counters"); !r)
        return tl::unexpected(r.error());
    return argument;
}

Result<void> Shim::volume_create(const dek_ioc_volume& volume) {
    auto argument = volume;
    return call(DEK_IOC_VOLUME_CREATE, &argument, "making the volume in the shim");
}

Result<void> Shim::volume_remove(const Uuid& uuid) {
    auto argument = addressed<dek_ioc_volume_ref>(uuid);
    return call(DEK_IOC_VOLUME_REMOVE, &argument, "removing the volume from the shim");
}

Result<void> Shim::volume_resize(const Uuid& uuid, std::uint64_t lbas) {
    auto argument = addressed<dek_ioc_volume_ref>(uuid);
    argument.count = lbas;
    return call(DEK_IOC_VOLUME_RESIZE, &argument, "resizing the volume in the shim");
}

} // namespace dek::kcm
