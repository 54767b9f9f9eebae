// SPDX-License-Identifier: Apache-2.0
// One intermediate layer. Private to the layers; docs/layers.md is what it does.
#pragma once

#include <map>

#include <dek/block.hpp>

#include "kcm/layers/node.h"
#include "kcm/layers/parts.h"

namespace dek::kcm::layers {

// Never re-entered: a stack has no rings, and a tree one command at a time.
class Layer final : public Node {
  public:
    Layer(Shared& shared, std::size_t self);
    void answer(Block block) override;
    void renumber(std::size_t self, const std::vector<std::size_t>& index) override;

  private:
    // Endpoints of one class, as the layer knows them from handshakes.
    struct View {
        std::string class_name;
        std::uint64_t id = 0; // the layer's own
        std::map<std::size_t, std::uint64_t> below;
    };
    struct Association {
        View* view = nullptr;
        std::string key_id;
        dek_geometry geometry{};
        LunMap map; // of the layer; neighbours joined
        std::vector<Part> parts;
    };
    // Associate or Update, decoded: points into the block that came.
    struct Request {
        const dek_command* command;
        View* view;
        LunMap map;
        std::vector<Part> wanted;
        std::size_t capacity;
    };
    using Associations = std::map<std::uint64_t, Association>;

    const Device& device() const { return shared_->stack[self_]; }
    dek_status remark(dek_status status, const std::string& what);

    // Downwards (layer.cpp). What is sent is built in scratch_, which is wiped after a key.
    std::uint64_t next_controller_handle() { return ++controller_handle_; }
    dek_status exchange(std::size_t child, std::uint64_t* handle = nullptr);
    bool greet(View& view, std::size_t child);
    std::uint64_t id_of(View& view, std::size_t child);
    dek_status no_endpoint(const View& view, std::size_t child);
    using Send = std::function<dek_status(std::uint64_t id)>;
    dek_status with_id(View& view, std::size_t child, const Send& send);
    dek_status send_query(View& view, std::size_t child, const LunMap& map);
    dek_status send_association(std::uint32_t opcode, const dek_command& like, std::uint64_t id,
                                const Part& part, std::uint64_t* handle);
    dek_status send_disassociate(const Part& part);

    // Commands (layer.cpp).
    void handshake(Block block, const dek_command& command);
    dek_status hear_all(std::uint32_t& version, bool& heard);
    void forward(Block block);
    dek_status query(View& view, const dek_command& command);
    dek_status ask_legs(View& view, const LunMap& map);
    std::vector<std::size_t> children() const;
    dek_status check_map(const dek_command& command, LunMap& map);

    // Commands that change something (layer_association.cpp).
    dek_status associate(View& view, const dek_command& command, std::uint64_t& handle);
    dek_status refresh(View& view, const dek_command& command);
    dek_status update(View& view, const dek_command& command);
    dek_status disassociate(View& view, std::uint64_t handle);
    Association* find(const View& view, std::uint64_t handle);
    dek_status prepare(View& view, const dek_command& command, const Association* old,
                       Request& request);
    dek_status choose(View& view, const LunMap& map, const Association* old,
                      std::vector<bool>& chosen);
    dek_status remark_unfenced(std::size_t leaf);
    bool may_carry_io(std::size_t child) const;
    bool overlaps_another(const View& view, const LunMap& map, const Association* self) const;
    dek_status confirm(const dek_command& command, Association& a, dek_status& silent);

    // From what is held beneath to what is wanted, or back (layer_change.cpp).
    struct Change {
        PartPlan plan;
        bool all = false;        // Update: of every part, changed map or not
        std::size_t updated = 0; // so many of plan.next were looked at before the failure
        bool in_doubt = false;   // the next one may have changed all the same
        std::vector<std::size_t> incapable; // devices that can never serve it
    };
    dek_status reconcile(const Request& request, Association& a, bool update_all);
    dek_status update_parts(const Request& request, Association& a, Change& change);
    dek_status remove_surplus(const PartPlan& plan, Association& a);
    dek_status make_parts(const Request& request, Change& change);
    dek_status make(const Request& request, Part& part);
    dek_status do_without(Association& a, Change& change);
    void retreat(const Request& request, Association& a, Change& change);
    bool restore(const Part& old, const std::string& key_id);
    bool let_go(Part& part);
    dek_status clear_orphans();

    Shared* shared_;
    std::size_t self_;
    CommandBlock scratch_; // what goes down
    CommandBlock saved_;   // what came from above, where it is sent more than once
    std::map<std::string, View> views_;
    Associations associations_;
    std::vector<Part> orphans_; // held beneath, and no longer part of anything
    std::uint64_t last_handle_ = 0;
    std::uint64_t controller_handle_ = 0;
};

} // namespace dek::kcm::layers
