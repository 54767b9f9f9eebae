// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/tree.h"

#include <algorithm>
#include <map>

#include "kcm/layers/layer.h"

namespace dek::kcm::layers {
namespace {

std::unique_ptr<Node> make_node(Shared& shared, std::size_t i, const PortOf& port_of) {
    const Device& d = shared.stack[i];
    if (!d.leaf())
        return std::make_unique<Layer>(shared, i);
    return std::make_unique<Leaf>(shared, i, d.kind == Kind::opaque ? nullptr : port_of(d));
}

// A layer of the same kind goes on as it is, and so does a dek leg, whatever it can do now.
bool stays(const Device& before, const Device& after) {
    const auto is_dek = [](const Device& d) {
        return d.kind == Kind::endpoint || d.kind == Kind::fence;
    };
    return before.kind == after.kind || (is_dek(before) && is_dek(after));
}

std::vector<std::size_t> new_indexes(const Stack& before, const Stack& after) {
    std::map<std::string, std::size_t> by_name;
    for (std::size_t i = 0; i < after.devices.size(); i++)
        by_name[after[i].name] = i;
    std::vector<std::size_t> index(before.devices.size(), SIZE_MAX);
    for (std::size_t i = 0; i < before.devices.size(); i++)
        if (const auto found = by_name.find(before[i].name);
            found != by_name.end() && stays(before[i], after[found->second]))
            index[i] = found->second;
    return index;
}

} // namespace

void Leaf::answer(Block block) {
    if (!port_)
        return dek_block_answer(block.data(), DEK_UNKNOWN_ENDPOINT);
    if (const auto sent = port_->send(block); !sent) {
        shared_->remark(self_, DEK_INVALID_HW_STATE, "does not answer: " + sent.error().reason);
        dek_block_answer(block.data(), DEK_INVALID_HW_STATE);
    }
}

Tree::Tree(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
Tree::Tree(Tree&&) noexcept = default;
Tree& Tree::operator=(Tree&&) noexcept = default;
Tree::~Tree() = default;

Result<Tree> Tree::make(Stack stack, const PortOf& port_of, Options options) {
    if (auto r = validate(stack); !r)
        return tl::unexpected(r.error());
    auto shared = std::make_unique<Shared>();
    shared->stack = std::move(stack);
    shared->options = options;
    for (std::size_t i = 0; i < shared->stack.devices.size(); i++)
        shared->nodes.push_back(make_node(*shared, i, port_of));
    return Tree(std::move(shared));
}

void Tree::answer(Block block) {
    shared_->nodes[shared_->stack.top]->answer(block);
}

Result<void> Tree::reshape(Stack next, const PortOf& port_of) {
    if (auto r = validate(next); !r)
        return r;
    const auto index = new_indexes(shared_->stack, next);
    if (index[shared_->stack.top] != next.top)
        return fail(Errc::invalid_argument, title(next[next.top]) + " is not what " +
                                                title(shared_->stack[shared_->stack.top]) +
                                                " has become");
    auto before = std::move(shared_->nodes);
    shared_->nodes.clear();
    shared_->nodes.resize(next.devices.size());
    shared_->stack = std::move(next);
    for (std::size_t i = 0; i < before.size(); i++) {
        if (index[i] == SIZE_MAX)
            continue;
        before[i]->renumber(index[i], index);
        shared_->nodes[index[i]] = std::move(before[i]);
    }
    for (std::size_t i = 0; i < shared_->nodes.size(); i++)
        if (!shared_->nodes[i])
            shared_->nodes[i] = make_node(*shared_, i, port_of);
    return {};
}

const Stack& Tree::stack() const {
    return shared_->stack;
}

std::vector<Remark> Tree::take_remarks() {
    return std::exchange(shared_->remarks, {});
}

std::string sentence_of(const std::vector<Remark>& remarks) {
    std::string all;
    std::vector<std::string> said;
    for (const auto& remark : remarks) {
        if (std::find(said.begin(), said.end(), remark.sentence) != said.end())
            continue;
        said.push_back(remark.sentence);
        all += (all.empty() ? "" : "; ") + remark.sentence;
    }
    return all;
}

} // namespace dek::kcm::layers
