// SPDX-License-Identifier: Apache-2.0
// The calls that only tell: list, ranges, associations, tokens, statistics, events.
#include <algorithm>
#include <cstring>

#include "dispatcher.h"

namespace dek::shim {
namespace {

// The caller's page, emptied; what it asked for is kept by the caller of this.
template <class Page>
Page& emptied(std::span<std::uint8_t> argument) {
    auto& page = *reinterpret_cast<Page*>(argument.data());
    page.count = page.more = 0;
    std::memset(page.entry, 0, sizeof(page.entry));
    return page;
}

template <std::size_t N>
void copy_text(char (&to)[N], const char* from) {
    std::memset(to, 0, N);
    std::memcpy(to, from, std::min(std::strlen(from), N - 1));
}

void describe(const Volume& volume, dek_list_entry& out) {
    std::memset(&out, 0, sizeof(out));
    dek_endpoint_describe(volume.endpoint.get(), &out);
    out.logical_block = volume.logical_block;
    out.engines = out.engine;
    if (!volume.backing.fd)
        out.flags |= DEK_ENDPOINT_FAILED;
    copy_text(out.name, volume.config.name);
    copy_text(out.device, volume.config.device);
}

} // namespace

int Dispatcher::list(Argument argument) const {
    auto& page = emptied<dek_ioc_list>(argument);
    Uuid cursor;
    std::copy_n(page.cursor, cursor.size(), cursor.begin());
    auto at = volumes_.upper_bound(cursor);
    for (; at != volumes_.end() && page.count < DEK_LIST_PAGE; ++at)
        describe(*at->second, page.entry[page.count++]);
    page.more = at != volumes_.end();
    return 0;
}

int Dispatcher::ranges(const Volume& volume, Argument argument) const {
    auto& page = emptied<dek_ioc_ranges>(argument);
    const dek_snapshot* snapshot = dek_endpoint_current(volume.endpoint.get());
    dek_range_entry next;
    bool found = dek_snapshot_next(snapshot, page.cursor, &next);
    while (found && page.count < DEK_RANGES_PAGE) {
        page.entry[page.count++] = next;
        page.cursor = next.first + next.count;
        found = dek_snapshot_next(snapshot, page.cursor, &next);
    }
    page.more = found;
    return 0;
}

int Dispatcher::associations(const Volume& volume, Argument argument) const {
    auto& page = emptied<dek_ioc_associations>(argument);
    dek_association_entry next;
    bool found = dek_endpoint_next_association(volume.endpoint.get(), page.cursor, &next);
    while (found && page.count < DEK_ASSOCIATIONS_PAGE) {
        page.entry[page.count++] = next;
        found = dek_endpoint_next_association(volume.endpoint.get(), next.handle, &next);
    }
    page.more = found;
    return 0;
}

int Dispatcher::tokens(const Volume& volume, Argument argument) const {
    auto& page = emptied<dek_ioc_tokens>(argument);
    dek_token_entry next;
    bool found = dek_endpoint_next_token(volume.endpoint.get(), page.cursor, &next);
    while (found && page.count < DEK_TOKENS_PAGE) {
        page.entry[page.count++] = next;
        found = dek_endpoint_next_token(volume.endpoint.get(), next.token, &next);
    }
    page.more = found;
    return 0;
}

int Dispatcher::stats(const Volume& volume, Argument argument) const {
    auto& out = *reinterpret_cast<dek_ioc_stats*>(argument.data());
    out = {};
    std::memcpy(out.uuid, volume.config.uuid, sizeof(out.uuid));
    sum_counters(volume, out);
    return 0;
}

int Dispatcher::events(std::uint64_t file, Argument argument) {
    auto& page = *reinterpret_cast<dek_ioc_events*>(argument.data());
    std::memset(page.event, 0, sizeof(page.event));
    bool more = false;
    page.count = static_cast<std::uint32_t>(events_.read(page.cursor, page.event, more));
    page.more = more;
    // What this file has seen, whether it took it now or says that it has it already.
    std::uint64_t seen = std::min<std::uint64_t>(page.cursor, events_.newest());
    if (page.count)
        seen = page.event[page.count - 1].sequence;
    auto& handed_out = handed_out_[file];
    handed_out = std::max(handed_out, seen);
    return 0;
}

} // namespace dek::shim
