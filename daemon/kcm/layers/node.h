// SPDX-License-Identifier: Apache-2.0
// What a command block is sent to: a device of the stack, be it a layer or a leaf. Private to the
// layers.
#pragma once

#include <memory>
#include <span>

#include "kcm/layers/tree.h"

namespace dek::kcm::layers {

class Node {
  public:
    virtual ~Node() = default;
    // Answered in place and sealed, whatever happens.
    virtual void answer(Block block) = 0;
    // Devices have new indexes; SIZE_MAX: this one is gone.
    virtual void renumber(std::size_t self, const std::vector<std::size_t>& index) = 0;
};

// What the nodes of one tree share.
struct Shared {
    Stack stack;
    Options options;
    std::vector<std::unique_ptr<Node>> nodes; // by device
    std::vector<Remark> remarks;

    void remark(std::size_t device, dek_status status, const std::string& what) {
        remarks.push_back({device, status, title(stack[device]) + " " + what});
    }
};

// The bottom: the port's endpoint, or nobody.
class Leaf final : public Node {
  public:
    Leaf(Shared& shared, std::size_t self, std::shared_ptr<Port> port)
        : shared_(&shared), self_(self), port_(std::move(port)) {}
    void answer(Block block) override;
    void renumber(std::size_t self, const std::vector<std::size_t>&) override { self_ = self; }

  private:
    Shared* shared_;
    std::size_t self_;
    std::shared_ptr<Port> port_;
};

} // namespace dek::kcm::layers
