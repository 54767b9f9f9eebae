// SPDX-License-Identifier: Apache-2.0
// Who encrypts a volume of the kernel shim: what lies beneath it is looked at, and what was decided
// is brought about where nobody uses the volume yet.
#include <algorithm>

#include "base/log.h"
#include "kcm/beneath.h"
#include "kcm/controller.h"
#include "kcm/device_lbas.h"
#include "kcm/kernel_table.h"
#include "kcm/live_stack.h"

namespace dek::kcm {
namespace {

layers::Policy policy_of(const Volume& v) {
    if (v.wish == Wish::software || v.header.endpoint_policy == "never")
        return layers::Policy::never;
    return v.header.endpoint_policy == "hardware-only" ? layers::Policy::hardware_only
                                                       : layers::Policy::prefer;
}

// What an endpoint answers when it is asked for these LBAs now.
dek_status answer_of(Shim& shim, const Uuid& uuid, const LunMap& map) {
    auto talk = Negotiation::begin(shim, uuid);
    if (!talk)
        return DEK_INVALID_HW_STATE;
    const auto r = talk->query(map);
    if (r)
        return DEK_OK;
    return r.error().code == Errc::unsupported ? DEK_NOT_CAPABLE
           : r.error().code == Errc::busy      ? DEK_BUSY
                                               : DEK_INVALID_HW_STATE;
}

LunMap in_units(const LunMap& map, std::uint32_t unit) {
    return map.fits(0, unit) == DEK_OK ? map : LunMap();
}

// Each endpoint beneath is asked for what it would have to encrypt.
void ask_endpoints(Shim& shim, layers::Stack& stack, const LunMap& map) {
    const auto all = layers::project(stack, map);
    for (std::size_t i = 0; i < stack.devices.size(); i++) {
        auto& device = stack.devices[i];
        if (device.kind != layers::Kind::endpoint || device.endpoint.ready != DEK_OK)
            continue;
        const auto asked = in_units(all[i], device.endpoint.data_unit);
        const auto uuid = volume::uuid_of(device.uuid);
        if (uuid && !asked.empty())
            device.endpoint.ready = answer_of(shim, *uuid, asked);
    }
}

// An endpoint takes its keys whether its path carries I/O or not. Where another path encrypts, one
// that has failed is given them, too: it is let in again only with them.
void count_failed_paths(layers::Stack& stack) {
    const auto ready = [&](const layers::Leg& leg) {
        const auto& path = stack.devices[leg.device];
        return path.kind == layers::Kind::endpoint && path.endpoint.ready == DEK_OK;
    };
    for (auto& device : stack.devices) {
        if (device.kind != layers::Kind::multipath ||
            std::none_of(device.legs.begin(), device.legs.end(),
                         [&](const auto& leg) { return leg.may_carry_io() && ready(leg); }))
            continue;
        for (auto& leg : device.legs)
            if (!leg.may_carry_io() && ready(leg))
                leg.state = layers::PathState::standby;
    }
}

// It would carry what one leg decrypts already to another that does not encrypt yet.
void keep_off_copying_mirrors(layers::Stack& stack) {
    for (auto& device : stack.devices)
        if (device.copying && device.obstacle.empty())
            device.obstacle = "copies from leg to leg by itself, and legs beneath it only begin to "
                              "encrypt when it is done";
}

} // namespace

// A dek target over the device: one that is there already is asked.
layers::TopTarget Controller::top_target(const Volume& v, const LunMap& map) {
    auto& shim = *site(v).shim;
    const auto version = shim.version();
    if (!version)
        return {0, "cannot be made: " + version.error().reason};
    layers::TopTarget top{version->engines, ""};
    const auto there = v.encryptor == layers::Encryptor::top
                           ? shim.find(v.header.uuid)
                           : Result<std::optional<dek_list_entry>>();
    if (there && *there && !map.empty())
        if (const auto status = answer_of(shim, v.header.uuid, map); status != DEK_OK)
            top.obstacle = std::string("answers ") + dek_status_text(status);
    return top;
}

// An engine that was lent makes nobody fit: whoever is keyed there leaves, and then the endpoint
// goes by its own again.
void Controller::discount_loans(layers::Stack& stack) {
    const auto by_cpu = [](const layers::Device& device) {
        return device.kind == layers::Kind::endpoint && device.endpoint.ready == DEK_OK &&
               device.endpoint.engines == DEK_ENGINE_CPU;
    };
    if (std::none_of(stack.devices.begin(), stack.devices.end(), by_cpu))
        return;
    const auto version = parts_.shims.of("kernel").shim->version();
    const bool better = version && (version->engines & DEK_ENGINE_ACCEL);
    for (auto& device : stack.devices)
        if (by_cpu(device) && (better || lent_.contains(device.uuid)))
            device.endpoint.ready = DEK_INVALID_HW_STATE;
}

Result<std::shared_ptr<const Survey>> Controller::look(const Volume& v) {
    auto stack = discover(v.device, *site(v).shim);
    if (!stack)
        return tl::unexpected(stack.error());
    if (v.shim == "kernel")
        discount_loans(*stack);
    return judge(v, std::move(*stack));
}

std::shared_ptr<const Survey> Controller::judge(const Volume& v, layers::Stack stack,
                                                const std::string& top_obstacle) {
    layers::Question q;
    q.encrypted = encrypted_device_map(v.header);
    q.geometry = tweak_geometry(v.header);
    q.policy = policy_of(v);
    ask_endpoints(*site(v).shim, stack, q.encrypted);
    count_failed_paths(stack);
    if (v.encryptor != layers::Encryptor::endpoints)
        keep_off_copying_mirrors(stack);
    q.top = top_target(v, q.encrypted);
    if (!top_obstacle.empty())
        q.top->obstacle = top_obstacle;
    auto survey = std::make_shared<Survey>();
    survey->decision = layers::decide(stack, q);
    survey->stack = std::move(stack);
    if (survey->decision.who == layers::Encryptor::nobody)
        survey->decision.who =
            q.top->engines ? layers::Encryptor::top : layers::Encryptor::software;
    return survey;
}

// A volume that nobody has yet: an endpoint, or a device over those beneath, or dm-crypt. Hidden.
Result<void> Controller::put_in_service(Volume& v, const KeyFinder& keys, Undo& undo) {
    auto& at = site(v);
    if (v.shim == "kernel") {
        auto survey = look(v);
        if (!survey)
            return tl::unexpected(survey.error());
        v.survey = *survey;
        v.encryptor = v.survey->decision.who;
    }
    if (v.encryptor == layers::Encryptor::endpoints)
        if (auto r = guard_.keep(&v); !r) {
            keep_guard(); // the volume does not come: what it would have had fenced is not
            return r;
        }
    const auto beneath = std::make_shared<Beneath>(*at.shim, v.header, v.survey);
    // It points into the header of the caller's volume. What somebody has open goes on encrypting.
    undo.add([this, beneath, copy = v, backend = at.backend.get()] {
        const auto gone = backend->conceal(copy.node(), std::chrono::milliseconds(2000));
        if (auto r = gone ? beneath->leave() : gone; !r)
            log_error("legs-not-left", r.error(), {{"volume", copy.name}});
        else // nobody else would look soon
            keep_guard();
    });
    KernelKeys ring;
    Result<void> ready;
    if (v.encryptor == layers::Encryptor::endpoints)
        ready = beneath->encrypt(keys);
    else
        ready = beneath->yield();
    if (ready && v.encryptor == layers::Encryptor::software)
        ready = offer_keys(ring, v.header, keys);
    if (ready)
        ready = at.backend->create(*at.shim, v.node());
    if (ready && v.encryptor == layers::Encryptor::top)
        ready = establish(*at.shim, v.header, keys);
    return ready;
}

// The table for another size, or another header, of a volume whose own endpoint does not encrypt.
Result<void> Controller::resize_lines(const Volume& v, std::uint64_t lbas) {
    KernelKeys ring;
    if (v.encryptor == layers::Encryptor::software)
        if (auto r = offer_keys(ring, v.header, key_finder()); !r)
            return r;
    return site(v).backend->resize(*site(v).shim, v.node(), lbas);
}

KeyFinder Controller::key_finder() {
    return [this](const volume::HeaderKey& key) { return parts_.keys->material(key); };
}

// All of a volume's keys, so that nothing has to wait for them while I/O stands still.
Result<Controller::KeyRing> Controller::keys_of(const volume::Header& header) {
    KeyRing ring;
    for (const auto& key : header.keys) {
        auto material = parts_.keys->material(key);
        if (!material)
            return tl::unexpected(material.error());
        ring[key.id] = std::move(*material);
    }
    return ring;
}

// What has moved away: LBAs of legs that only the old survey gives to the volume. As long as
// endpoints encrypt it they stay fenced where a guard stands, which opens them when somebody else
// uses them.
Result<void> Controller::leave_lost_legs(const Volume& v,
                                         const std::shared_ptr<const Survey>& old) {
    if (!old || !v.survey)
        return {};
    auto gone = std::make_shared<Survey>(*old);
    for (auto& m : gone->decision.maps)
        for (const auto& kept : v.survey->decision.maps)
            if (old->stack[m.device].uuid == v.survey->stack[kept.device].uuid)
                m.map = m.map.subtract(kept.map);
    std::erase_if(gone->decision.maps, [](const auto& m) { return m.map.empty(); });
    const auto stays_fenced = [&](const Uuid& leg) {
        return v.encryptor == layers::Encryptor::endpoints && guard_.stands(leg);
    };
    // Whoever was copying when the old survey was made may have come to an end since, and reads
    // nothing in the clear where a guard stands.
    const bool copying = std::any_of(v.survey->stack.devices.begin(), v.survey->stack.devices.end(),
                                     [](const auto& device) { return device.copying; });
    const bool fenced =
        std::all_of(gone->decision.maps.begin(), gone->decision.maps.end(), [&](const auto& m) {
            const auto uuid = volume::uuid_of(old->stack[m.device].uuid);
            return uuid && stays_fenced(*uuid);
        });
    for (auto& device : gone->stack.devices)
        device.copying = device.copying && copying && !fenced;
    auto left = Beneath(*site(v).shim, v.header, gone).leave(stays_fenced);
    if (left || left.error().code == Errc::not_found)
        return {};
    log_error("legs-not-left", left.error(), {{"volume", v.name}});
    return left;
}

void Controller::keep_guard() {
    if (auto r = guard_.keep(); !r)
        log_error("guard-not-kept", r.error());
}

} // namespace dek::kcm
