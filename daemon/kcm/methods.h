// SPDX-License-Identifier: Apache-2.0
// The methods of org.dekstack.Controller1, one table. docs/dbus.md says what each of them means.
#pragma once

#include <functional>
#include <vector>

#include "kcm/controller.h"
#include "kcm/request.h"
#include "kcm/status.h"

namespace dek::kcm {

// What methods work on. `shims` is the calling thread's own.
struct MethodContext {
    Controller* controller; // operations thread only
    const Shims* shims;
    Registry* registry;
    KeyService* keys;
    KeystoreSeat* seat;
    const Options* options;
    std::int64_t since; // seconds since the epoch: kcmd's start
    EventSink event;
    std::function<void()> keys_may_be_had; // a keystore was unsealed: what waits is tried again
};

enum class Queue {
    operations, // in order, one at a time
    inquiries,  // answered while an operation hangs; changes nothing
};

struct Method {
    const char* name;
    Queue queue;
    std::vector<ArgSpec> args;
    Result<json> (*run)(MethodContext& context, const Request& request);
};

std::vector<Method> volume_methods();
std::vector<Method> header_methods();
std::vector<Method> key_methods();
std::vector<Method> keystore_methods();
std::vector<Method> endpoint_methods();
const std::vector<Method>& all_methods();
const Method* find_method(std::string_view name); // or null

// device, header_at, header: how several methods name a header.
HeaderQuery header_query(const Request& request);

} // namespace dek::kcm
