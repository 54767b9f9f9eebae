// SPDX-License-Identifier: Apache-2.0
// Sequences of operations on an endpoint. Two ways, by the first byte: well-formed operations
// against the plain model, which knows every status and the state of every LBA; or blocks, map
// pages and numbers of any shape, against the one rule that matters most: what must be encrypted is
// never passed as it is unless it was yielded.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "rig.h"
#include "walk.h"

namespace {

// What is left of the input; zeros beyond its end.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
    bool empty() const { return at_ == end_; }
    std::uint8_t byte() { return empty() ? 0 : *at_++; }
    std::uint64_t number() { // mostly small
        const unsigned bytes = byte() % 9;
        std::uint64_t n = 0;
        for (unsigned i = 0; i < bytes; ++i)
            n = n << 8 | byte();
        return n;
    }
    void copy(void* out, std::size_t n) {
        n = std::min<std::size_t>(n, static_cast<std::size_t>(end_ - at_));
        std::memcpy(out, at_, n);
        at_ += n;
    }

  private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

void follow_model(Input& in) {
    const std::uint8_t kind = in.byte();
    rig::Walk walk([&](unsigned n) { return (in.byte() | (n > 256 ? in.byte() << 8u : 0u)) % n; },
                   kind, kind & 1, kind & 2);
    for (int steps = 0; !in.empty() && steps < 300; ++steps)
        walk.step();
}

constexpr std::uint64_t lbas = 1024;

// What of the device must be encrypted, as far as the answers say.
class Sentinel {
  public:
    Sentinel() : shim_(lbas, false) {
        shim_.config.max_ranges = 100;
        shim_.config.max_associations = 10;
        shim_.make();
    }

    void step(Input& in) {
        const std::uint8_t what = in.byte();
        shim_.drains = what & 0x80;
        switch (what % 8) {
        case 0:
        case 1:
        case 2:
            block(in, what % 8);
            break;
        case 3:
        case 4:
            page(in);
            break;
        case 5: {
            std::uint64_t token = 0;
            const std::uint64_t first = in.number();
            shim_.quiesce(first, in.number(), token);
            if (token)
                tokens_.push_back(token);
            break;
        }
        case 6:
            shim_.release(token(in));
            shim_.drained(shim_.held);
            break;
        default:
            yield(in);
        }
        check();
    }

  private:
    rig::Endpoint shim_;
    std::vector<bool> must_ = std::vector<bool>(lbas);
    std::vector<bool> yielded_ = std::vector<bool>(lbas);
    std::vector<bool> plain_ = std::vector<bool>(lbas); // as a map said
    std::vector<dek_map_entry> open_;
    std::vector<std::uint64_t> tokens_;
    std::vector<std::uint64_t> handles_{0};

    std::uint64_t token(Input& in) {
        return tokens_.empty() ? in.number() : tokens_[in.byte() % tokens_.size()];
    }

    // A good block, changed in places, its checksum right again.
    void block(Input& in, unsigned kind) {
        rig::Body body;
        body.handle = handles_[in.byte() % handles_.size()];
        body.key = in.byte() % 4;
        body.key_id = std::string(1 + in.byte() % 64, 'k');
        std::uint64_t at = 0;
        for (unsigned n = 1 + in.byte() % 5; n; --n) {
            const std::uint64_t first = at + in.byte() % 64 * 8;
            const std::uint64_t count = (1 + in.byte() % 16) * 8;
            body.map.push_back({first, count});
            at = first + count;
        }
        auto block = shim_.associate_block(body, kind ? DEK_OP_ASSOCIATE : DEK_OP_UPDATE);
        if (kind == 2) {
            dek_block_begin(block.data(), in.byte() % 7, dek_endpoint_id(shim_.ep), 1);
            dek_block_disassociate(block.data(), body.handle);
        }
        for (unsigned patches = in.byte() % 4; patches; --patches) {
            const unsigned where = 16 + (in.byte() | in.byte() << 8u) % (DEK_BLOCK_SIZE - 24);
            in.copy(block.data() + where, in.byte() % 9);
        }
        dek_block_seal(block.data());
        auto sent = block;
        const auto answer = shim_.send(block);
        dek_command cmd;
        if (dek_block_decode(sent.data(), &cmd) != DEK_OK || !shim_.change.next)
            return;
        if (cmd.opcode != DEK_OP_ASSOCIATE && cmd.opcode != DEK_OP_UPDATE)
            return;
        for (std::uint32_t i = 0; i < cmd.map_count; ++i) {
            const dek_range r = dek_command_range(&cmd, i);
            std::fill_n(must_.begin() + static_cast<long>(r.first), r.count, true);
            std::fill_n(yielded_.begin() + static_cast<long>(r.first), r.count, false);
            std::fill_n(plain_.begin() + static_cast<long>(r.first), r.count, false);
        }
        if (answer.status == DEK_OK)
            handles_.push_back(answer.handle);
    }

    void page(Input& in) {
        auto page = std::make_unique<dek_ioc_map>();
        page->generation = dek_snapshot_generation(dek_endpoint_current(shim_.ep)) + in.byte() % 3;
        page->flags = in.byte() % 9;
        page->count = in.byte() % 8;
        std::uint64_t at = 0;
        for (unsigned i = 0; i < page->count; ++i) {
            page->entry[i] = {at + in.byte() * 8u, 8u * (in.byte() % 32), 1u + in.byte() % 3, 0};
            at = page->entry[i].first + page->entry[i].count;
        }
        if (in.byte() % 4 == 0)
            in.copy(&page->entry[in.byte() % 8], 24);
        const int err = shim_.settle(dek_endpoint_map(shim_.ep, page.get(), &shim_.change));
        if (page->flags & DEK_MAP_BEGIN && err != -EINVAL && err != -ESTALE)
            open_.clear();
        if (page->flags & DEK_MAP_ADD && (!err || err == -EBUSY))
            open_.insert(open_.end(), page->entry, page->entry + page->count);
        if (shim_.change.next)
            committed();
    }

    // What was keyed had to be in the new map.
    void committed() {
        must_.assign(lbas, false);
        const auto yielded = std::exchange(yielded_, std::vector<bool>(lbas, false));
        const auto plain = std::exchange(plain_, std::vector<bool>(lbas, true));
        for (const auto& e : open_) {
            const auto first = static_cast<long>(e.first), end = first + static_cast<long>(e.count);
            if (e.kind != DEK_MAP_RESERVED)
                std::fill(must_.begin() + first, must_.begin() + end, true);
            std::fill(plain_.begin() + first, plain_.begin() + end, false);
            for (auto i = e.first; e.kind == DEK_MAP_KEEP && i < e.first + e.count; ++i)
                yielded_[i] = yielded[i] || plain[i];
        }
        open_.clear();
        for (const auto& r : shim_.ranges())
            if (r.state == DEK_RANGE_KEYED && !must_[r.first])
                throw std::logic_error("a keyed range outside the map");
    }

    void yield(Input& in) {
        const std::uint64_t first = in.number(), count = in.number();
        if (shim_.yield(token(in), first, count))
            return;
        for (std::uint64_t lba = first; lba < first + count; ++lba) {
            if (!must_[lba])
                throw std::logic_error("a yield of what need not be encrypted");
            yielded_[lba] = true;
        }
    }

    void check() const {
        std::uint64_t seen[2] = {0, 0}; // of reads and writes: each LBA's piece is looked at once
        for (std::uint64_t lba = 0; lba < lbas; lba += 1 + lba % 3) {
            const bool write = lba & 4;
            const auto got = shim_.look(lba, write, lbas);
            if (!got.count || got.count > lbas - lba)
                throw std::logic_error("a piece of no size");
            if ((got.verdict == DEK_CRYPT) != (got.handle != 0))
                throw std::logic_error("encrypted without an association, or the reverse");
            auto& i = seen[write];
            for (i = std::max(i, lba); i < lba + got.count; ++i)
                if (must_[i] && !yielded_[i] &&
                    (got.verdict == DEK_PASS || got.verdict == DEK_REFUSE))
                    throw std::logic_error("plain I/O where there must be none");
        }
    }
};

void stand_guard(Input& in) {
    Sentinel sentinel;
    for (int steps = 0; !in.empty() && steps < 200; ++steps)
        sentinel.step(in);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    try {
        in.byte() & 1 ? follow_model(in) : stand_guard(in);
    } catch (const std::logic_error& e) {
        std::fprintf(stderr, "%s\n", e.what());
        std::abort();
    }
    return 0;
}
