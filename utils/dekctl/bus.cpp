// SPDX-License-Identifier: Apache-2.0
#include "bus.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "bus_error.h"

namespace dek::ctl {
namespace {

constexpr const char* service = "org.dekstack";
constexpr const char* object = "/org/dekstack/Controller1";
constexpr const char* interface = "org.dekstack.Controller1";
constexpr std::uint64_t tick_usec = 200'000;

struct Unref {
    void operator()(sd_bus_message* m) const noexcept { sd_bus_message_unref(m); }
    void operator()(sd_bus_slot* s) const noexcept { sd_bus_slot_unref(s); }
};
using Message = std::unique_ptr<sd_bus_message, Unref>;
using Slot = std::unique_ptr<sd_bus_slot, Unref>;

bool on_system_bus(sd_bus* bus) {
    sd_bus_message* raw = nullptr;
    const int called =
        sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                           "org.freedesktop.DBus", "NameHasOwner", nullptr, &raw, "s", service);
    const Message reply(raw);
    int owned = 0;
    return called >= 0 && sd_bus_message_read(reply.get(), "b", &owned) >= 0 && owned;
}

Result<Fd> connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path))
        return fail(Errc::invalid_argument, "the path of the socket is empty or too long: " + path);
    path.copy(address.sun_path, path.size());
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd)
        return fail_errno(errno, "cannot make a socket");
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0)
        return socket_error(path, errno);
    return fd;
}

struct Reply {
    bool done = false;
    Result<std::string> text{std::string()};
};

int take_reply(sd_bus_message* message, void* into, sd_bus_error*) noexcept {
    Reply& reply = *static_cast<Reply*>(into);
    reply.done = true;
    if (const sd_bus_error* error = sd_bus_message_get_error(message)) {
        reply.text = call_error(error->name, error->message);
        return 0;
    }
    const char* text = nullptr;
    if (!sd_bus_message_has_signature(message, "s") || sd_bus_message_read(message, "s", &text) < 0)
        reply.text = mismatch("its answer has another form");
    else
        reply.text = std::string(text);
    return 0;
}

Result<Message> make_call(sd_bus* bus, const std::string& method, const std::string& arguments,
                          const std::vector<Fd>& descriptors) {
    sd_bus_message* raw = nullptr;
    // On a private connection the destination is ignored.
    int r = sd_bus_message_new_method_call(bus, &raw, service, object, interface, method.c_str());
    Message message(raw);
    if (r >= 0)
        r = sd_bus_message_append(raw, "s", arguments.c_str());
    if (r >= 0)
        r = sd_bus_message_open_container(raw, 'a', "h");
    for (std::size_t i = 0; r >= 0 && i < descriptors.size(); ++i)
        r = sd_bus_message_append(raw, "h", descriptors[i].get());
    if (r >= 0)
        r = sd_bus_message_close_container(raw);
    if (r < 0)
        return fail_errno(-r, "cannot make the call");
    return message;
}

// True when something was done; false: nothing to do for one tick.
Result<bool> turn(sd_bus* bus) {
    int r = sd_bus_process(bus, nullptr);
    if (r > 0)
        return true;
    if (r == 0)
        r = sd_bus_wait(bus, tick_usec);
    if (r < 0 && r != -EINTR)
        return lost(-r);
    return false;
}

int take_event(sd_bus_message* message, void* handler, sd_bus_error*) noexcept {
    const char* text = nullptr;
    if (sd_bus_message_has_signature(message, "s") && sd_bus_message_read(message, "s", &text) >= 0)
        (*static_cast<const std::function<void(const std::string&)>*>(handler))(text);
    return 0;
}

// On the system bus the connection outlives the controller, so its name is watched.
int take_owner(sd_bus_message* message, void* gone, sd_bus_error*) noexcept {
    const char *name = nullptr, *before = nullptr, *after = nullptr;
    if (sd_bus_message_read(message, "sss", &name, &before, &after) >= 0 && !*after)
        *static_cast<bool*>(gone) = true;
    return 0;
}

} // namespace

void Controller::Close::operator()(sd_bus* bus) const noexcept {
    sd_bus_flush_close_unref(bus);
}
Controller::Controller(Controller&&) noexcept = default;
Controller::~Controller() = default;

Result<Controller> Controller::connect_socket(const std::string& path) {
    Result<Fd> fd = connect_unix(path);
    if (!fd)
        return tl::unexpected<Error>(fd.error());
    sd_bus* raw = nullptr;
    int r = sd_bus_new(&raw);
    if (r < 0)
        return fail_errno(-r, "cannot set up D-Bus");
    Controller controller(raw);
    r = sd_bus_set_fd(raw, fd->get(), fd->get());
    if (r >= 0) {
        fd->release(); // the bus closes it
        r = sd_bus_negotiate_fds(raw, 1);
    }
    if (r >= 0)
        r = sd_bus_start(raw);
    if (r < 0)
        return lost(-r);
    return controller;
}

Result<Controller> Controller::connect(const std::string& socket) {
    if (!socket.empty())
        return connect_socket(socket);
    sd_bus* raw = nullptr;
    if (sd_bus_open_system(&raw) >= 0) {
        Controller controller(raw);
        if (on_system_bus(raw))
            return controller;
    }
    return connect_socket(default_socket);
}

Result<std::string> Controller::call(const std::string& method, const std::string& arguments,
                                     const std::vector<Fd>& descriptors, Seconds timeout,
                                     const std::function<void()>& waiting) {
    Reply reply;
    sd_bus_slot* raw = nullptr;
    {
        const Result<Message> message = make_call(bus_.get(), method, arguments, descriptors);
        if (!message)
            return tl::unexpected<Error>(message.error());
        const int r =
            sd_bus_call_async(bus_.get(), &raw, message->get(), take_reply, &reply, UINT64_MAX);
        if (r < 0)
            return lost(-r);
    }
    const Slot slot(raw); // a late answer finds no `reply` of ours
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (!reply.done) {
        const Result<bool> busy = turn(bus_.get());
        if (!busy)
            return tl::unexpected<Error>(busy.error());
        if (*busy || reply.done)
            continue;
        if (timeout != Seconds::zero() && std::chrono::steady_clock::now() >= end)
            return fail(Errc::timeout, "kcmd did not answer within " +
                                           std::to_string(timeout.count()) +
                                           " s; it may still be at work");
        waiting();
    }
    return reply.text;
}

Result<void> Controller::follow(const std::function<Result<void>()>& ready,
                                const std::function<void(const std::string&)>& event,
                                const std::function<bool()>& stop) {
    sd_bus* bus = bus_.get();
    sd_bus_slot *raw_events = nullptr, *raw_owner = nullptr;
    bool gone = false;
    const bool shared = sd_bus_is_bus_client(bus) > 0;
    int r = sd_bus_match_signal(bus, &raw_events, shared ? service : nullptr, object, interface,
                                "Event", take_event,
                                const_cast<void*>(static_cast<const void*>(&event)));
    const Slot events(raw_events);
    if (r >= 0 && shared)
        r = sd_bus_match_signal(bus, &raw_owner, "org.freedesktop.DBus", nullptr,
                                "org.freedesktop.DBus", "NameOwnerChanged", take_owner, &gone);
    const Slot owner(raw_owner);
    if (r < 0)
        return lost(-r);
    if (Result<void> is = ready(); !is)
        return is;
    while (!stop()) {
        const Result<bool> busy = turn(bus);
        if (!busy)
            return tl::unexpected<Error>(busy.error());
        if (gone)
            return lost(ECONNRESET);
    }
    return {};
}

} // namespace dek::ctl
