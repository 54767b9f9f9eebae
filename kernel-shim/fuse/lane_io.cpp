// SPDX-License-Identifier: Apache-2.0
// What a lane does with a request: look it up, encrypt, submit, decrypt, answer.
#include "lane.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "connection.h"
#include "engine.h"

namespace dek::shim {

void Lane::look_up() {
    if (fresh_.empty())
        return;
    for (auto& berth : berths_)
        berth->fresh_large = false;
    const std::lock_guard guard(lock_);
    while (Request* r = fresh_.pop()) {
        if (r->opcode == FUSE_FSYNC || examine(*r)) {
            ready_.push(r);
        } else if (r->berth->gone) { // nobody waits for it any more
            r->error = EIO;
            ready_.push(r);
        } else {
            keep_waiting(r);
        }
    }
}

// Finds the pieces of the next round, takes holds on their keys and puts the request on record. All
// that is left is looked at first, so one that must fail or wait does so before any of it is
// written.
bool Lane::examine(Request& r) {
    const Volume& v = *r.berth->volume;
    // The epoch first: one that is too old makes a drain wait a little longer, never too short.
    const std::uint64_t epoch = v.epoch.load(std::memory_order_acquire);
    const dek_snapshot* snapshot = v.snapshot.load(std::memory_order_acquire);
    std::uint64_t lba = v.first + (r.offset + r.done) / 512;
    std::uint64_t left = (r.size - r.done) / 512;
    if (r.berth->waiting.empty())
        r.berth->seen_epoch = epoch;
    r.first = lba;
    r.count = left;
    r.piece_count = 0;
    while (left) {
        dek_piece piece;
        dek_snapshot_lookup(snapshot, lba, left, r.write, &piece);
        if (piece.verdict == DEK_WAIT ||
            (piece.verdict == DEK_FENCED && dek_snapshot_fence(snapshot) == DEK_FENCE_HOLD))
            return false;
        if (piece.verdict == DEK_REFUSE || piece.verdict == DEK_FENCED) {
            r.error = EIO;
            if (piece.verdict == DEK_FENCED)
                fence_hit(*r.berth, lba);
            else
                Counters::add(r.berth->counters->refused);
            return true;
        }
        if (r.piece_count < kPiecesAtOnce)
            r.pieces[r.piece_count++] = {piece.verdict == DEK_CRYPT ? piece.association : nullptr,
                                         piece.count};
        lba += piece.count;
        left -= piece.count;
    }
    fit_round(r);
    for (unsigned i = 0; i < r.piece_count; i++)
        if (r.pieces[i].association)
            holds_.take(r.pieces[i].association);
    r.epoch.store(epoch, std::memory_order_release);
    return true;
}

// The pieces of this round, cut to whole blocks of the device when there are more to come.
void Lane::fit_round(Request& r) {
    std::uint64_t sectors = 0;
    for (unsigned i = 0; i < r.piece_count; i++)
        sectors += r.pieces[i].sectors;
    if (sectors != r.count) {
        std::uint64_t over = sectors % (r.berth->volume->logical_block / 512);
        sectors -= over;
        while (over) {
            Request::Piece& last = r.pieces[r.piece_count - 1];
            const std::uint64_t cut = std::min(over, last.sectors);
            last.sectors -= cut;
            over -= cut;
            if (!last.sectors)
                r.piece_count--;
        }
    }
    r.span = static_cast<std::uint32_t>(sectors * 512);
}

// Under the lock, so that whoever publishes next finds the count when it looks after its grace
// period.
void Lane::keep_waiting(Request* r) {
    Berth& berth = *r->berth;
    if (!r->waited) {
        r->waited = true;
        Counters::add(berth.counters->waited);
    }
    if (!r->write && r->large) { // a read begins again, and needs no memory meanwhile
        give_large(*r);
        r->done = 0;
    }
    berth.waiting.push(r);
    set_waiting(berth, berth.waiting_requests + 1, berth.waiting_large + (r->large ? 1 : 0));
    busy(-1);
    if (berth.waiting_requests >= kWaitingRequests || berth.waiting_large >= kWaitingLarge)
        listen(berth, false);
}

void Lane::prepare(Request* r) {
    if (r->error)
        return finish(r, -r->error);
    if (r->opcode == FUSE_FSYNC) {
        r->berth->volume->open_flushes().fetch_add(1); // closed by end_flush, or lost with us
        ::io_prep_fdsync(&r->operation, r->berth->volume->backing.fd.get());
    } else {
        if (!r->write && r->size > kSmall && !r->large && !(r->large = pool_.take_large()))
            return starved_.push(r);
        if (r->write && !crypt(*r, true)) {
            release_pieces(*r);
            return finish(r, -EIO);
        }
        aim(*r);
    }
    ::io_set_eventfd(&r->operation, aio_.event_fd());
    r->operation.data = r;
    queued_.push_back(&r->operation);
}

// One operation for the whole round: its pieces lie together on the device and, but for a large
// write's two parts, in memory.
void Lane::aim(Request& r) {
    const Volume& v = *r.berth->volume;
    int count = 0;
    for (std::uint32_t at = r.done; at < r.done + r.span;) {
        const auto memory = r.memory(at);
        const auto n = std::min<std::size_t>(memory.size(), r.done + r.span - at);
        r.parts[static_cast<unsigned>(count++)] = {memory.data(), n};
        at += static_cast<std::uint32_t>(n);
    }
    const auto where = static_cast<long long>(v.first * 512 + r.offset + r.done);
    const int fd = v.backing.fd.get();
    if (r.write)
        ::io_prep_pwritev(&r.operation, fd, r.parts.data(), count, where);
    else
        ::io_prep_preadv(&r.operation, fd, r.parts.data(), count, where);
}

bool Lane::submit() {
    std::size_t at = 0;
    while (at < queued_.size()) {
        const int n = aio_.submit(std::span(queued_).subspan(at));
        if (n == 0)
            break;
        if (n < 0) {
            end_round(*static_cast<Request*>(queued_[at++]->data), n);
        } else {
            submitted_ += static_cast<unsigned>(n);
            at += static_cast<std::size_t>(n);
        }
    }
    queued_.erase(queued_.begin(), queued_.begin() + static_cast<std::ptrdiff_t>(at));
    return queued_.empty() || submitted_;
}

bool Lane::reap() {
    std::array<io_event, 64> events;
    bool any = false;
    while (const unsigned n = aio_.reap(events)) {
        any = true;
        submitted_ -= n;
        for (unsigned i = 0; i < n; i++)
            end_round(*static_cast<Request*>(events[i].data), static_cast<long>(events[i].res));
    }
    return any;
}

void Lane::end_round(Request& r, long long result) {
    if (r.opcode == FUSE_FSYNC)
        return end_flush(r, result >= 0);
    int error = 0;
    if (result != static_cast<long long>(r.span)) {
        error = result == -ENOSPC ? -ENOSPC : -EIO;
        Counters::add(r.berth->counters->errors);
    } else if (!r.write && !crypt(r, false)) {
        error = -EIO;
    }
    if (!error)
        count_round(r);
    release_pieces(r);
    r.done += r.span;
    if (error || r.done == r.size)
        finish(&r, error);
    else
        fresh_.push(&r);
}

// The device tells of lost writes once, and the next flush succeeds: so what was told is written
// down before anybody hears of it, for this lane, the others and the next worker.
void Lane::end_flush(Request& r, bool good) {
    const auto failed = r.berth->volume->failed_flush();
    if (good)
        Counters::add(r.berth->counters->flushes);
    else
        Counters::add(r.berth->counters->errors);
    if (!good)
        failed.store(1, std::memory_order_release);
    r.berth->volume->open_flushes().fetch_sub(1);
    finish(&r, failed ? -EIO : 0);
}

// In place: a write's data is the lane's own copy, and the kernel keeps the original for the next
// worker, should this one die.
bool Lane::crypt(Request& r, bool encrypt) {
    std::uint32_t at = r.done;
    std::uint64_t lba = r.first;
    for (unsigned i = 0; i < r.piece_count; i++) {
        const Request::Piece& piece = r.pieces[i];
        if (piece.association) {
            const Span span{lba, piece.sectors, encrypt};
            if (!crypt_span(*piece.association, span, [&](std::uint64_t byte) {
                    return r.memory(at + static_cast<std::uint32_t>(byte));
                })) {
                add_event(*r.berth->volume, DEK_EVENT_ENGINE_ERROR, 0);
                return false;
            }
        }
        lba += piece.sectors;
        at += static_cast<std::uint32_t>(piece.sectors * 512);
    }
    return true;
}

void Lane::release_pieces(Request& r) {
    for (unsigned i = 0; i < r.piece_count; i++)
        if (r.pieces[i].association)
            holds_.drop(r.pieces[i].association);
    r.piece_count = 0;
    r.epoch.store(0, std::memory_order_release);
    ended_ = true;
}

void Lane::count_round(const Request& r) {
    Counters& c = *r.berth->counters;
    for (unsigned i = 0; i < r.piece_count; i++) {
        auto& kind = !r.pieces[i].association ? c.plain_bytes
                     : r.write                ? c.encrypted_bytes
                                              : c.decrypted_bytes;
        Counters::add(kind, r.pieces[i].sectors * 512);
    }
    if (r.done == 0)
        Counters::add(r.write ? c.writes : c.reads);
    Counters::add(r.write ? c.write_bytes : c.read_bytes, r.span);
}

void Lane::finish(Request* r, int error) {
    const int fd = r->berth->fd;
    if (error || r->opcode == FUSE_FSYNC) {
        answer(fd, r->unique, error);
    } else if (r->write) {
        const fuse_write_out out{r->size, 0};
        answer(fd, r->unique, 0, &out, sizeof(out));
    } else {
        answer(fd, r->unique, 0, r->large ? r->large : r->small, r->size);
    }
    Counters::add(r->berth->counters->ended);
    busy(-1);
    r->berth->requests--;
    give_large(*r);
    pool_.give(r);
}

// Gives back its large piece, if it has one, and lets a request go on that has none.
void Lane::give_large(Request& r) {
    if (r.large)
        pool_.give_large(std::exchange(r.large, nullptr));
    if (pool_.has_large())
        if (Request* next = starved_.pop())
            ready_.push(next);
}

void Lane::fence_hit(Berth& berth, std::uint64_t lba) {
    Counters::add(berth.counters->fence_hits);
    Volume& v = *berth.volume;
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    const std::int64_t this_second = now.tv_sec;
    if (v.last_fence_event.exchange(this_second, std::memory_order_relaxed) != this_second)
        add_event(v, DEK_EVENT_FENCE_HIT, lba);
}

void Lane::add_event(const Volume& volume, dek_event_type type, std::uint64_t lba) {
    dek_event event{};
    std::copy(std::begin(volume.config.uuid), std::end(volume.config.uuid), event.uuid);
    event.generation = volume.generation.load(std::memory_order_relaxed);
    event.type = type;
    event.lba = lba;
    events_.add(event);
    nudge_();
}

} // namespace dek::shim
