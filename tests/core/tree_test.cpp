// SPDX-License-Identifier: Apache-2.0
// The range tree by itself, against a std::map of cuts, at sizes that need several levels.
#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "allocator.h"
#include <dek/ioctl.h>
extern "C" { // private, so written for C alone
#include <snapshot_private.h>
}

namespace {

using Cuts = std::map<std::uint64_t, std::uintptr_t>;

constexpr std::uint64_t lba_end = 1ull << 55;

void assign(Cuts& cuts, std::uint64_t first, std::uint64_t end, std::uintptr_t value) {
    const std::uintptr_t after = std::prev(cuts.upper_bound(end))->second;
    cuts.erase(cuts.lower_bound(first), cuts.upper_bound(end));
    cuts[first] = value;
    cuts[end] = after;
    for (const auto at : {end, first}) { // neighbours differ
        const auto it = cuts.find(at);
        if (it != cuts.begin() && std::prev(it)->second == it->second)
            cuts.erase(it);
    }
}

class Tree {
  public:
    dek_tree tree{};
    dek_weave weave{};

    Tree() { REQUIRE(dek_tree_plain(&weave, &tree)); }
    ~Tree() {
        dek_block* nodes = nullptr;
        dek_tree_drop(&tree, &nodes);
        dek_blocks_free(nodes);
        dek_weave_clear(&weave);
    }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;

    bool edit(const std::vector<dek_edit>& edits) {
        dek_tree next;
        if (!dek_tree_edit(&weave, &tree, edits.data(), static_cast<unsigned>(edits.size()), &next))
            return false;
        tree = next;
        replaced = 0;
        for (const dek_block* b = weave.dropped; b; b = b->next)
            ++replaced;
        dek_blocks_free(weave.dropped);
        return true;
    }
    long replaced = 0; // nodes, by the last edit

    struct Shape {
        std::size_t leaves = 0;
        std::size_t inner = 0;
        std::size_t cuts = 0;
        std::size_t wide = 0;
        std::size_t clustered = 0;
    };
    // Checks what every tree must be, and collects its cuts.
    Shape check(Cuts& out) const {
        Shape shape;
        descend(tree.root, tree.height, 0, shape, out);
        return shape;
    }

  private:
    void descend(const dek_block* node, unsigned height, std::uint64_t first, Shape& shape,
                 Cuts& out) const {
        if (height) {
            const auto* inner = reinterpret_cast<const dek_inner*>(node);
            ++shape.inner;
            shape.clustered += inner->clustered;
            if (inner->count < 1 || inner->count > DEK_INNER_CUTS || inner->cut[0].key != first)
                FAIL("an inner node of " << int(inner->count) << " at " << first);
            for (unsigned i = 0; i < inner->count; ++i)
                descend(reinterpret_cast<const dek_block*>(inner->cut[i].value), height - 1,
                        inner->cut[i].key, shape, out);
            return;
        }
        const auto* leaf = reinterpret_cast<const dek_leaf*>(node);
        ++shape.leaves;
        shape.wide += leaf->wide;
        shape.cuts += leaf->count;
        if (leaf->count < 1 || leaf->count > (leaf->wide ? DEK_LEAF_CUTS : DEK_DENSE_CUTS) ||
            leaf->base != first)
            FAIL("a leaf of " << int(leaf->count) << " at " << first);
        unsigned count = 0;
        dek_stretch at{};
        for (at.end = first; at.end != ~0ull; ++count) {
            at = dek_leaf_at(leaf, at.end);
            if (!out.empty() &&
                (out.rbegin()->first >= at.first || out.rbegin()->second == at.value))
                FAIL("cuts out of order or without effect at " << at.first);
            out.emplace_hint(out.end(), at.first, at.value);
        }
        if (count != leaf->count)
            FAIL("a leaf of " << count << " says it has " << leaf->count);
    }
};

std::array<std::uint32_t, DEK_STATES> count_states(const Cuts& cuts) {
    std::array<std::uint32_t, DEK_STATES> n{};
    for (auto& [key, value] : cuts)
        n[value & DEK_VALUE_STATE] += (value & DEK_VALUE_STATE) != DEK_RANGE_PLAIN;
    return n;
}

void agree(const Tree& tree, const Cuts& model) {
    Cuts got;
    tree.check(got);
    REQUIRE(got == model);
    const auto states = count_states(model);
    for (unsigned s = 1; s < DEK_STATES; ++s)
        REQUIRE(tree.tree.ranges[s] == states[s]);
}

void agree_on_lookup(const Tree& tree, const Cuts& model, std::uint64_t lba) {
    const auto next = model.upper_bound(lba);
    const dek_stretch at = dek_tree_find(&tree.tree, lba, lba_end);
    if (at.first != std::prev(next)->first || at.value != std::prev(next)->second ||
        at.end != (next == model.end() ? lba_end : next->first))
        FAIL("LBA " << lba << " is found in [" << at.first << ", " << at.end << ")");
    static dek_snapshot s; // as the data path sees it
    s.tree = tree.tree;
    s.end = lba_end;
    s.generation = 1;
    dek_snapshot_judge(&s);
    dek_snapshot_shorten(&s);
    dek_piece piece;
    dek_snapshot_lookup(&s, lba, ~0ull, false, &piece);
    if (piece.count != at.end - lba || piece.verdict != s.verdict[at.value & DEK_VALUE_STATE][0] ||
        piece.association != dek_value_association(at.value))
        FAIL("the verdict on LBA " << lba << " is " << piece.verdict << " for " << piece.count);
}

std::uintptr_t some_value(std::mt19937_64& random, unsigned kinds) {
    const auto n = random() % kinds;
    return n < DEK_STATES && n != DEK_RANGE_KEYED ? n : (n << 6 | DEK_RANGE_KEYED);
}

} // namespace

TEST_CASE("a tree edited at random holds what a sorted map does, whatever its size") {
    const auto scale = GENERATE(1ull, 8ull, 8ull << 20, (1ull << 36) + 8);
    const unsigned kinds = GENERATE(3u, 100u);
    std::mt19937_64 random(scale + kinds);
    Tree tree;
    Cuts model{{0, DEK_RANGE_PLAIN}};
    for (int round = 0; round < 200; ++round) {
        // Now and then one that wipes out a lot, so that it shrinks as well.
        const std::uint64_t reach = round % 50 == 49 ? 4000 : 3;
        std::vector<dek_edit> edits;
        std::uint64_t at = random() % 30000;
        for (unsigned i = 0; i < 60 && at < 40000; ++i) {
            const std::uint64_t end = at + 1 + random() % reach;
            edits.push_back({at * scale, end * scale, some_value(random, kinds)});
            at = end + random() % 200 * (random() % 3 != 0);
        }
        REQUIRE(tree.edit(edits));
        for (auto& e : edits)
            assign(model, e.first, e.end, e.value);
        if (round % 20 == 9)
            agree(tree, model);
        for (int i = 0; i < 200; ++i)
            agree_on_lookup(tree, model, random() % (41000 * scale));
    }
    Cuts cuts;
    CHECK(tree.check(cuts).leaves >= 5);
}

TEST_CASE("cuts that cluster, and cuts that are far apart, are found like any others") {
    Tree tree;
    Cuts model{{0, DEK_RANGE_PLAIN}};
    std::mt19937_64 random(7);
    // 3000 cuts close together for every power of two, so inner nodes cannot tell them by
    // stretches.
    for (unsigned power = 16; power < 54; ++power) {
        std::vector<dek_edit> edits;
        for (unsigned i = 0; i < 180; ++i) {
            const std::uint64_t first =
                (1ull << power) + i * (power % 5 ? 16 : 1ull << (power / 2 - 4));
            edits.push_back({first, first + 8, some_value(random, 40)});
        }
        edits.erase(std::remove_if(edits.begin(), edits.end(),
                                   [&](auto& e) { return e.end > (2ull << power); }),
                    edits.end());
        std::vector<dek_edit> apart;
        for (auto& e : edits)
            if (apart.empty() || apart.back().end <= e.first)
                apart.push_back(e);
        REQUIRE(tree.edit(apart));
        for (auto& e : apart)
            assign(model, e.first, e.end, e.value);
    }
    agree(tree, model);
    Cuts cuts;
    const auto shape = tree.check(cuts);
    CHECK(shape.wide > 0);
    CHECK(shape.clustered > 0);
    for (auto& [key, value] : model) {
        agree_on_lookup(tree, model, key);
        agree_on_lookup(tree, model, key + 1);
        if (key)
            agree_on_lookup(tree, model, key - 1);
    }
}

TEST_CASE("a leaf at the limits of the dense form is read right, and one beyond them is wide") {
    struct Limit {
        const char* what;
        std::uint64_t last_cut; // the others are LBAs 0 to 16
        unsigned values;
        bool touching; // nothing plain between them
        bool wide;
    };
    const auto limit =
        GENERATE(Limit{"the last granule", DEK_DENSE_GRANULES - 1, 1, false, false},
                 Limit{"a granule too far", DEK_DENSE_GRANULES, 1, false, true},
                 Limit{"the last granule of a word", 63, 1, false, false},
                 Limit{"the first granule of a word", 64, 1, false, false},
                 Limit{"a run over a whole word", 200, 1, true, false},
                 Limit{"as many values as there can be", 20, DEK_DENSE_VALUES, false, false},
                 Limit{"the same, side by side", 20, DEK_DENSE_VALUES, true, false},
                 Limit{"a value too many", 20, DEK_DENSE_VALUES + 1, false, true});
    const auto scale = GENERATE(1ull, 8ull, 1ull << 33, 1ull << 44);
    INFO(limit.what);
    Tree tree;
    Cuts model{{0, DEK_RANGE_PLAIN}};
    std::vector<dek_edit> edits;
    const auto value = [&](unsigned i) { return std::uintptr_t(i + 1) << 6 | DEK_RANGE_KEYED; };
    for (unsigned i = 0; i < limit.values; ++i)
        edits.push_back(
            {(1 + 3 * i) * scale, ((limit.touching ? 4 : 3) + 3 * i) * scale, value(i)});
    edits.back().end = 16 * scale;
    for (auto& e : edits)
        assign(model, e.first, e.end, e.value);
    edits.push_back({limit.last_cut * scale, ~0ull, value(limit.values - 1)}); // to the end
    model[limit.last_cut * scale] = edits.back().value;
    REQUIRE(tree.edit(edits));
    agree(tree, model);
    Cuts cuts;
    const auto shape = tree.check(cuts);
    CHECK(shape.leaves == 1);
    CHECK(shape.wide == limit.wide);
    for (std::uint64_t at = 0; at < DEK_DENSE_GRANULES + 300; ++at)
        for (const std::uint64_t lba : {at * scale, at * scale + scale / 2, at * scale + scale - 1})
            for (const std::uint64_t far : {std::uint64_t(0), std::uint64_t(scale) << 32})
                if (scale < 1ull << 23 || !far)
                    agree_on_lookup(tree, model, lba + far);
}

TEST_CASE("two values side by side to the end of a leaf are two") {
    Tree tree;
    Cuts model{{0, DEK_RANGE_PLAIN}, {8, 1 << 6 | DEK_RANGE_KEYED}, {16, 2 << 6 | DEK_RANGE_KEYED}};
    REQUIRE(tree.edit({{8, 16, 1 << 6 | DEK_RANGE_KEYED}, {16, ~0ull, 2 << 6 | DEK_RANGE_KEYED}}));
    agree(tree, model);
    for (std::uint64_t lba = 0; lba < 600; ++lba)
        agree_on_lookup(tree, model, lba);
}

TEST_CASE("a range of one LBA is found in the few") {
    Tree tree;
    Cuts model{{0, DEK_RANGE_PLAIN}};
    REQUIRE(tree.edit({{10, 11, DEK_RANGE_FENCED}}));
    assign(model, 10, 11, DEK_RANGE_FENCED);
    for (std::uint64_t lba = 0; lba < 20; ++lba)
        agree_on_lookup(tree, model, lba);
}

TEST_CASE("ranges added in order fill their leaves") {
    Tree tree;
    constexpr unsigned commands = 500;
    for (unsigned c = 0; c < commands; ++c) {
        std::vector<dek_edit> edits;
        for (std::uint64_t i = 0; i < 60; ++i)
            edits.push_back(
                {(c * 60 + i) * 32, (c * 60 + i) * 32 + 16, (c + 1) << 6 | DEK_RANGE_KEYED});
        REQUIRE(tree.edit(edits));
    }
    Cuts cuts;
    const auto shape = tree.check(cuts);
    CHECK(shape.cuts == commands * 120); // the first one begins at LBA 0
    CHECK(shape.wide == 0);
    CHECK(shape.leaves <= shape.cuts / 360 + 2); // four values: three commands, and part of one
}

TEST_CASE("a command replaces a path of nodes for each range, not the tree") {
    Tree tree;
    std::vector<dek_edit> edits;
    for (std::uint64_t i = 0; i < 100'000; ++i)
        edits.push_back({i * 64, i * 64 + 32, DEK_RANGE_FENCED});
    REQUIRE(tree.edit(edits));
    REQUIRE(tree.tree.height == 2);
    std::mt19937_64 random(3);
    for (int i = 0; i < 200; ++i) {
        const std::uint64_t first = random() % 100'000 * 64;
        REQUIRE(tree.edit({{first, first + 32, std::uintptr_t(i + 1) << 6 | DEK_RANGE_KEYED}}));
        // Where a range touches a border, the neighbour is on the path, too.
        CHECK(tree.replaced <= 2 + 2 + 1 + 1);
    }
}

TEST_CASE("a tree from which nearly everything is taken away becomes small again") {
    Tree tree;
    std::vector<dek_edit> edits;
    for (std::uint64_t i = 0; i < 50'000; ++i)
        edits.push_back({i * 64, i * 64 + 32, DEK_RANGE_FENCED});
    REQUIRE(tree.edit(edits));
    REQUIRE(tree.edit({{64 * 100, 64 * 49'900, DEK_RANGE_PLAIN}}));
    Cuts cuts;
    auto shape = tree.check(cuts);
    CHECK(shape.leaves <= 10);
    REQUIRE(tree.edit({{0, 64 * 50'000, DEK_RANGE_PLAIN}}));
    cuts.clear();
    shape = tree.check(cuts);
    CHECK(shape.leaves == 1);
    CHECK(shape.inner == 0);
    CHECK(cuts == Cuts{{0, DEK_RANGE_PLAIN}});
}

TEST_CASE("thinning a tree out, a range here and one there, merges its leaves") {
    Tree tree;
    std::vector<dek_edit> edits;
    constexpr std::uint64_t ranges = 20'000;
    std::vector<std::uint64_t> gone;
    for (std::uint64_t i = 0; i < ranges; ++i) {
        edits.push_back({i * 64, i * 64 + 32, DEK_RANGE_FENCED});
        if (i % 50)
            gone.push_back(i);
    }
    REQUIRE(tree.edit(edits));
    std::shuffle(gone.begin(), gone.end(), std::mt19937_64(11));
    for (const auto i : gone)
        REQUIRE(tree.edit({{i * 64, i * 64 + 32, DEK_RANGE_PLAIN}}));
    Cuts cuts;
    const auto shape = tree.check(cuts);
    CHECK(shape.cuts == ranges / 50 * 2);
    CHECK(shape.leaves <= shape.cuts / (DEK_LEAF_CUTS / 3));
}

TEST_CASE("a tree edit that runs out of memory at any point leaves the old tree and no garbage") {
    Tree tree;
    std::vector<dek_edit> edits, change;
    for (std::uint64_t i = 0; i < 40'000; ++i)
        edits.push_back({i * 64, i * 64 + 32, DEK_RANGE_FENCED});
    REQUIRE(tree.edit(edits));
    for (std::uint64_t i = 0; i < 60; ++i)
        change.push_back({i * 40'000 + 8, i * 40'000 + 16, i << 6 | DEK_RANGE_KEYED});
    Cuts before, after;
    tree.check(before);
    const long blocks = allocator::live();
    long k = 1;
    for (;; ++k) {
        allocator::fail_at(k);
        const bool made = tree.edit(change);
        allocator::fail_at(0);
        if (made)
            break;
        after.clear();
        tree.check(after);
        REQUIRE(after == before);
        REQUIRE(allocator::live() == blocks);
    }
    CHECK(k > 100);
}
