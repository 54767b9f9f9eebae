// SPDX-License-Identifier: Apache-2.0
// The intermediate layers of one storage stack, alive: command blocks go in at the top and come out
// at the endpoints, replicated, remapped and with each layer's own IDs and handles. docs/layers.md
// says what each layer decides.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "kcm/layers/stack.h"

namespace dek::kcm::layers {

using Block = std::span<std::uint8_t, DEK_BLOCK_SIZE>;

// The way to one endpoint beneath everything.
class Port {
  public:
    virtual ~Port() = default;
    // The command in the block is answered in place. An error: nobody answered; what became of the
    // command is not known. Busy is tried again here, for as long as that is worth it.
    virtual Result<void> send(Block block) = 0;
};

// Something that an administrator should be told about the last command.
struct Remark {
    std::size_t device; // index in the stack
    dek_status status;
    std::string sentence; // names layer and device; no trailing full stop
};

struct Options {
    bool strict_handshake = false;   // a layer affirms only if everything beneath it does
    std::uint32_t needs_version = 1; // of the protocol, by the layers
};

struct Shared;

// A leaf that is an endpoint or a fence has a port; nullptr for one that cannot be reached.
using PortOf = std::function<std::shared_ptr<Port>(const Device& leaf)>;

// Not thread-safe: one command at a time. Keys pass through locked memory that is wiped at once;
// none is kept.
class Tree {
  public:
    static Result<Tree> make(Stack stack, const PortOf& port_of, Options options = {});
    Tree(Tree&&) noexcept;
    Tree& operator=(Tree&&) noexcept;
    ~Tree();

    // A command to the top device, answered in place and sealed.
    void answer(Block block);
    // What the stack has become: devices are known by their names. Associations stay with those
    // that stay; what has come, or has a path again, is associated by the next refresh.
    Result<void> reshape(Stack next, const PortOf& port_of);

    const Stack& stack() const;
    // Since the last call.
    std::vector<Remark> take_remarks();

  private:
    explicit Tree(std::unique_ptr<Shared> shared);
    std::unique_ptr<Shared> shared_;
};

// All sentences in one, for an Error's reason.
std::string sentence_of(const std::vector<Remark>& remarks);

} // namespace dek::kcm::layers
