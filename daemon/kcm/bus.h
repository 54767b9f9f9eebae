// SPDX-License-Identifier: Apache-2.0
// D-Bus: the system bus, or a private socket that speaks it peer to peer.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kcm/methods.h"

namespace dek::kcm {

// A call that is being worked on. Made and destroyed on the bus' thread; its descriptors live as
// long as it.
struct Call {
    sd_bus_message* message = nullptr;
    const Method* method = nullptr;
    Request request;

    Call() = default;
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call();
};

// Everything here belongs to the thread of the event loop.
class Bus {
  public:
    // dispatch: takes the call over and answers it later with reply().
    using Dispatch = std::function<void(std::unique_ptr<Call>)>;
    Bus(sd_event* loop, Dispatch dispatch);
    ~Bus();
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;

    Result<void> open_system();
    // Replaces a socket that nobody listens on any more; mode 0600.
    Result<void> listen(const std::string& path);

    static void reply(const Call& call, const Result<json>& answer);
    void emit(const json& event); // to everybody connected

  private:
    struct Connection;

    static int on_accept(sd_event_source*, int fd, uint32_t, void* self);
    static int on_call(sd_bus_message* m, void* connection, sd_bus_error*);
    static int on_gone(sd_bus_message* m, void* connection, sd_bus_error*);
    static int on_sweep(sd_event_source*, void* self);
    Result<void> serve(sd_bus* bus, bool system, Connection*& made);
    void accept();
    Result<void> take(sd_bus_message* m);

    sd_event* loop_;
    Dispatch dispatch_;
    Fd listener_;
    std::string socket_path_;
    sd_event_source* listening_ = nullptr;
    sd_event_source* sweep_ = nullptr;
    std::list<Connection> connections_;
    std::vector<sd_bus_vtable> vtable_;
};

// Errc::wrong_key -> "org.dekstack.Error.WrongKey".
std::string error_name(Errc code);

} // namespace dek::kcm
