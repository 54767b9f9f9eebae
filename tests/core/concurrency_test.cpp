// SPDX-License-Identifier: Apache-2.0
// Readers look up while a writer changes, as in a shim whose readers count themselves in and out of
// their read sections: what a change replaced is freed when every reader has been outside since.
#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "allocator.h"
#include "rig.h"

using namespace rig;

namespace {

constexpr std::uint64_t lbas = 1 << 16;

struct alignas(64) Reader {
    std::atomic<unsigned> section{0}; // odd: inside
    std::uint64_t lookups = 0;
    std::string wrong;
};

class Shim {
  public:
    Endpoint e{lbas, false};
    std::atomic<const dek_snapshot*> shown{nullptr};
    std::array<Reader, 2> readers;
    std::atomic<bool> stop{false};

    Shim() {
        e.config.max_ranges = 100'000;
        e.make();
        REQUIRE(e.map(1, {{0, lbas / 2}}) == 0);
        shown = dek_endpoint_current(e.ep);
    }

    void send(Block& block) {
        dek_change change, after;
        dek_endpoint_command(e.ep, block.data(), &change);
        finish(change);
        if (!change.hold)
            return;
        grace(); // no reader is still under the old association
        dek_endpoint_drained(e.ep, change.hold, block.data(), &after);
        finish(after);
    }

  private:
    void grace() {
        for (auto& r : readers) {
            const unsigned seen = r.section;
            while (seen % 2 && r.section == seen)
                std::this_thread::yield();
        }
    }
    void finish(dek_change& change) {
        if (change.next) {
            shown = change.next;
            dek_endpoint_published(e.ep, &change);
            grace();
        }
        dek_change_reclaim(&change);
    }
};

// The first byte of the key says which of the two the association has.
void read(Shim& shim, Reader& reader, unsigned seed) {
    std::uint64_t x = seed;
    while (!shim.stop) {
        ++reader.section;
        const dek_snapshot* s = shim.shown;
        for (int i = 0; i < 16; ++i) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            const std::uint64_t lba = (x >> 33) % 1024;
            dek_piece piece;
            dek_snapshot_lookup(s, lba, 8, true, &piece);
            if (piece.verdict != DEK_CRYPT && piece.verdict != DEK_WAIT)
                reader.wrong = "neither association, nor waiting";
            if (piece.verdict == DEK_CRYPT) {
                dek_association_get(piece.association);
                const unsigned first = piece.association->key[0];
                if (first != key_bytes(1)[0] && first != key_bytes(2)[0])
                    reader.wrong = "a key that never was";
                dek_association_put(piece.association);
            }
            ++reader.lookups;
        }
        ++reader.section;
        std::this_thread::yield(); // so that it is mostly here that the others get their turn
    }
}

} // namespace

TEST_CASE(
    "while associations are replaced, a reader finds the old one or the new one, never neither") {
    const long unwiped = allocator::freed_unwiped();
    {
        Shim shim;
        Body body;
        for (std::uint64_t i = 0; i < 32; ++i)
            body.map.push_back({i * 32, 32});
        Block block = shim.e.associate_block(body);
        shim.send(block);
        body.handle = shim.e.look(0).handle;
        REQUIRE(body.handle);

        std::vector<std::thread> threads;
        for (auto& reader : shim.readers)
            threads.emplace_back([&shim, &reader, seed = static_cast<unsigned>(threads.size())] {
                read(shim, reader, seed);
            });
        unsigned failures = 0;
        // On a loaded machine every grace period takes long; a few hundred are enough.
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3);
        unsigned i = 0;
        for (; i < 1000 && (i < 20 || std::chrono::steady_clock::now() < deadline); ++i) {
            body.key = i % 2 + 1;
            body.map.resize(32);
            if (i % 3 == 0)
                body.map.push_back({2048 + i % 100 * 8, 8}); // grows and shrinks elsewhere
            block = shim.e.associate_block(body, DEK_OP_UPDATE);
            shim.send(block);
            failures += dek_get_le32(block.data() + 28) != DEK_OK;
            Body other; // and others come and go
            other.map = {{8192 + i % 50 * 16, 8}};
            other.key = 2;
            block = shim.e.associate_block(other);
            shim.send(block);
            failures += dek_get_le32(block.data() + 28) != DEK_OK;
            const std::uint64_t handle = dek_get_le64(block.data() + 48);
            dek_block_begin(block.data(), DEK_OP_DISASSOCIATE, dek_endpoint_id(shim.e.ep), 7);
            dek_block_disassociate(block.data(), handle);
            dek_block_seal(block.data());
            shim.send(block);
            failures += dek_get_le32(block.data() + 28) != DEK_OK;
        }
        shim.stop = true;
        for (auto& t : threads)
            t.join();
        CHECK(failures == 0);
        for (auto& reader : shim.readers) {
            CHECK(reader.wrong.empty());
            CHECK(reader.lookups > 100);
        }
        CHECK(shim.e.engine.sets - shim.e.engine.drops == 1);
    }
    CHECK(allocator::freed_unwiped() == unwiped);
}
