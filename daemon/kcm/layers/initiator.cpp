// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/initiator.h"

#include "base/secret.h"
#include "kcm/protocol_error.h"

namespace dek::kcm::layers {

// The association's handle in the answer (0 where there is none).
Result<std::uint64_t> Initiator::exchange(CommandBlock::Built command, const std::string& what) {
    if (!command)
        return fail(errc_of(command.error()),
                    what + ": " + dek_status_text(command.error()) + " before it was sent");
    CommandBlock response(static_cast<const CommandBlock&>(*command).bytes());
    tree_->take_remarks();
    tree_->answer(response.bytes());
    const auto answer = response.answer_to(*command);
    if (answer)
        return answer->association;
    const auto said = sentence_of(tree_->take_remarks());
    return fail(errc_of(answer.error()), what + ": " + dek_status_text(answer.error()) +
                                             (said.empty() ? "" : " (" + said + ")"));
}

Result<void> Initiator::handshake() {
    const auto random = Secret::random(DEK_RANDOM1_SIZE + DEK_RANDOM2_SIZE);
    const auto command =
        CommandBlock::handshake(class_name_, random.bytes().first<768>(), ++controller_handle_);
    if (!command)
        return fail(Errc::invalid_argument, "a class name of endpoints is too long");
    CommandBlock response(static_cast<const CommandBlock&>(*command).bytes());
    tree_->take_remarks();
    tree_->answer(response.bytes());
    if (!dek_handshake_affirmative(command->data(), response.data())) {
        const auto said = sentence_of(tree_->take_remarks());
        return fail(Errc::unsupported, "handshake: nobody of class " + class_name_ +
                                           " answers as is needed" +
                                           (said.empty() ? "" : " (" + said + ")"));
    }
    const auto answer = response.decode();
    endpoint_id_ = answer->endpoint_id;
    version_ = answer->version;
    return {};
}

Result<void> Initiator::query(const LunMap& map) {
    for (const auto& ranges : map.blocks())
        if (auto r = exchange(CommandBlock::query(address(), ranges), "query"); !r)
            return tl::unexpected(r.error());
    return {};
}

Result<std::vector<Held>> Initiator::associate(const LunMap& map, const Keying& keying) {
    const auto capacity =
        dek_associate_capacity(keying.blob, static_cast<__u32>(keying.key_id.size()));
    if (capacity == 0)
        return fail(Errc::invalid_argument, "a key ID has 1 to 64 bytes");
    if (auto r = clear_leftovers(); !r)
        return tl::unexpected(r.error());
    std::vector<Held> all;
    for (const auto& ranges : map.blocks(capacity)) {
        const AssociationBody body{0, keying.blob, keying.key_id, keying.geometry, ranges};
        const auto handle =
            exchange(CommandBlock::associate(address(), body), "associate key " + keying.key_id);
        if (handle) {
            all.push_back({*handle, LunMap::from({ranges.begin(), ranges.end()}).value()});
            continue;
        }
        Error error = handle.error();
        leftovers_.insert(leftovers_.end(), all.begin(), all.end());
        if (const auto gone = clear_leftovers(); !gone)
            error.reason += "; " + gone.error().reason;
        return tl::unexpected(error);
    }
    return all;
}

Result<void> Initiator::clear_leftovers() {
    while (!leftovers_.empty()) {
        const auto r = disassociate(leftovers_.back());
        // A new life holds nothing of the old one.
        if (!r && r.error().code != Errc::not_found && r.error().code != Errc::unavailable)
            return r;
        leftovers_.pop_back();
    }
    return {};
}

Result<void> Initiator::refresh(const Held& held, const Keying& keying) {
    const AssociationBody body{held.handle, keying.blob, keying.key_id, keying.geometry,
                               held.map.ranges()};
    const auto r = exchange(CommandBlock::associate(address(), body), "refresh");
    return r ? Result<void>() : tl::unexpected(r.error());
}

Result<void> Initiator::update(Held& held, const LunMap& map, const Keying& old,
                               const Keying& next) {
    const AssociationBody body{held.handle, next.blob, next.key_id, next.geometry, map.ranges()};
    const auto r = exchange(CommandBlock::update(address(), body), "update");
    if (r) {
        held.map = map;
        return {};
    }
    Error error = r.error();
    if (const auto restored = refresh(held, old); !restored)
        error.reason += "; parts stay fenced: " + restored.error().reason;
    return tl::unexpected(error);
}

Result<void> Initiator::disassociate(const Held& held) {
    const auto r = exchange(CommandBlock::disassociate(address(), held.handle), "disassociate");
    return r ? Result<void>() : tl::unexpected(r.error());
}

} // namespace dek::kcm::layers
