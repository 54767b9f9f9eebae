// SPDX-License-Identifier: Apache-2.0
#include "kcm/bus.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

namespace dek::kcm {
namespace {

constexpr const char* object_path = "/org/dekstack/Controller1";
constexpr const char* interface_name = "org.dekstack.Controller1";
constexpr const char* service_name = "org.dekstack";
constexpr std::size_t max_connections = 64;
constexpr std::size_t max_descriptors = 8;

std::string dumped(const json& j) {
    return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

void reply_error(sd_bus_message* m, const Error& error) {
    sd_bus_error e = SD_BUS_ERROR_NULL;
    const std::string name = error_name(error.code);
    sd_bus_error_set(&e, name.c_str(), error.reason.c_str());
    sd_bus_reply_method_error(m, &e);
    sd_bus_error_free(&e);
}

// On the bus the daemon asks the bus; a private peer was asked when it connected.
Result<void> check_sender(sd_bus_message* m, bool system) {
    if (!system)
        return {};
    sd_bus_creds* creds = nullptr;
    uid_t uid = UINT32_MAX;
    int r = sd_bus_query_sender_creds(m, SD_BUS_CREDS_EUID, &creds);
    if (r >= 0)
        r = sd_bus_creds_get_euid(creds, &uid);
    sd_bus_creds_unref(creds);
    if (r < 0 || uid != 0)
        return fail(Errc::permission, "only root may use dekstack");
    return {};
}

Result<std::vector<int>> read_descriptors(sd_bus_message* m) {
    std::vector<int> fds;
    int r = sd_bus_message_enter_container(m, 'a', "h");
    int fd = -1;
    while (r > 0 && (r = sd_bus_message_read_basic(m, 'h', &fd)) > 0)
        fds.push_back(fd);
    if (r < 0 || fds.size() > max_descriptors)
        return fail(Errc::invalid_argument, "the descriptors of the call cannot be taken over");
    return fds;
}

} // namespace

struct Bus::Connection {
    Bus* owner = nullptr;
    sd_bus* bus = nullptr;
    bool system = false;
    bool gone = false;

    ~Connection() {
        if (bus)
            sd_bus_flush_close_unref(bus);
    }
};

Call::~Call() {
    sd_bus_message_unref(message);
}

std::string error_name(Errc code) {
    std::string name = "org.dekstack.Error.";
    bool upper = true;
    for (const char* c = errc_name(code); *c; c++) {
        if (*c == '-') {
            upper = true;
            continue;
        }
        name += upper ? static_cast<char>(*c - 'a' + 'A') : *c;
        upper = false;
    }
    return name;
}

Bus::Bus(sd_event* loop, Dispatch dispatch) : loop_(loop), dispatch_(std::move(dispatch)) {
    vtable_.push_back(SD_BUS_VTABLE_START(0));
    for (const auto& method : all_methods())
        vtable_.push_back(
            SD_BUS_METHOD(method.name, "sah", "s", on_call, SD_BUS_VTABLE_UNPRIVILEGED));
    vtable_.push_back(SD_BUS_SIGNAL("Event", "s", 0));
    vtable_.push_back(SD_BUS_VTABLE_END);
    sd_event_add_defer(loop_, &sweep_, on_sweep, this);
    sd_event_source_set_enabled(sweep_, SD_EVENT_OFF);
}

Bus::~Bus() {
    sd_event_source_unref(listening_);
    sd_event_source_unref(sweep_);
    connections_.clear();
    if (!socket_path_.empty())
        ::unlink(socket_path_.c_str());
}

// Takes the reference to `bus`.
Result<void> Bus::serve(sd_bus* bus, bool system, Connection*& made) {
    auto& c = connections_.emplace_back();
    c.owner = this;
    c.bus = bus;
    c.system = system;
    made = &c;
    int r = sd_bus_add_object_vtable(bus, nullptr, object_path, interface_name, vtable_.data(), &c);
    if (r >= 0)
        r = sd_bus_match_signal(bus, nullptr, nullptr, "/org/freedesktop/DBus/Local",
                                "org.freedesktop.DBus.Local", "Disconnected", on_gone, &c);
    if (r >= 0 && !system)
        r = sd_bus_start(bus);
    if (r >= 0 && system)
        r = sd_bus_request_name(bus, service_name, 0);
    if (r >= 0)
        r = sd_bus_attach_event(bus, loop_, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        return {};
    connections_.pop_back();
    return fail_errno(-r, system ? "the system bus does not give the name org.dekstack"
                                 : "a connection cannot be served");
}

Result<void> Bus::open_system() {
    sd_bus* bus = nullptr;
    if (const int r = sd_bus_open_system(&bus); r < 0)
        return fail(Errc::unavailable, std::string("there is no system bus: ") + std::strerror(-r));
    Connection* made = nullptr;
    return serve(bus, true, made);
}

Result<void> Bus::listen(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(Errc::invalid_argument, "the path of the socket is too long: " + path);
    path.copy(address.sun_path, path.size());
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener_)
        return fail_errno(errno, "cannot make a socket");
    ::unlink(path.c_str()); // the lock on the run directory says that nobody listens on it
    const mode_t before = ::umask(0177);
    const int bound =
        ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    const int error = errno;
    ::umask(before);
    if (bound != 0)
        return fail_errno(error, path + " cannot be listened on");
    socket_path_ = path;
    if (::listen(listener_.get(), 16) != 0 ||
        sd_event_add_io(loop_, &listening_, listener_.get(), EPOLLIN, on_accept, this) < 0)
        return fail_errno(errno, path + " cannot be listened on");
    return {};
}

int Bus::on_accept(sd_event_source*, int, uint32_t, void* self) {
    static_cast<Bus*>(self)->accept();
    return 0;
}

void Bus::accept() {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd)
        return;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0) {
        log(Level::warning, "peer-refused", {{"uid", peer.uid}, {"pid", peer.pid}});
        return;
    }
    if (connections_.size() >= max_connections) {
        log(Level::warning, "too-many-connections");
        return;
    }
    sd_bus* bus = nullptr;
    sd_id128_t id;
    if (sd_bus_new(&bus) < 0)
        return;
    if (sd_id128_randomize(&id) < 0 || sd_bus_set_fd(bus, fd.get(), fd.get()) < 0) {
        sd_bus_unref(bus);
        return;
    }
    (void)fd.release(); // the bus' now
    sd_bus_set_server(bus, 1, id);
    sd_bus_negotiate_fds(bus, 1);
    Connection* made = nullptr;
    if (auto served = serve(bus, false, made); !served)
        log_error("connection-not-served", served.error());
}

int Bus::on_gone(sd_bus_message*, void* connection, sd_bus_error*) {
    auto* c = static_cast<Connection*>(connection);
    c->gone = true;
    if (c->system) {
        log(Level::error, "system-bus-lost");
        sd_event_exit(c->owner->loop_, 1);
    }
    sd_event_source_set_enabled(c->owner->sweep_,
                                SD_EVENT_ONESHOT); // not from within its own callback
    return 0;
}

int Bus::on_sweep(sd_event_source*, void* self) {
    static_cast<Bus*>(self)->connections_.remove_if([](const Connection& c) { return c.gone; });
    return 0;
}

int Bus::on_call(sd_bus_message* m, void* connection, sd_bus_error*) {
    auto* c = static_cast<Connection*>(connection);
    auto allowed = check_sender(m, c->system);
    if (allowed)
        allowed = c->owner->take(m);
    if (!allowed)
        reply_error(m, allowed.error());
    return 1;
}

Result<void> Bus::take(sd_bus_message* m) {
    const char* text = nullptr;
    if (sd_bus_message_read_basic(m, 's', &text) < 0)
        return fail(Errc::invalid_argument, "the call has no arguments");
    auto fds = read_descriptors(m);
    if (!fds)
        return tl::unexpected(fds.error());
    auto call = std::make_unique<Call>();
    call->method = find_method(sd_bus_message_get_member(m));
    if (!call->method)
        return fail(Errc::invalid_argument, "there is no such method");
    auto request = Request::parse(text, *fds, call->method->args);
    if (!request)
        return tl::unexpected(request.error());
    call->request = std::move(*request);
    call->message = sd_bus_message_ref(m);
    dispatch_(std::move(call));
    return {};
}

void Bus::reply(const Call& call, const Result<json>& answer) {
    if (!answer)
        return reply_error(call.message, answer.error());
    sd_bus_reply_method_return(call.message, "s", dumped(*answer).c_str());
}

void Bus::emit(const json& event) {
    const std::string text = dumped(event);
    for (const auto& c : connections_)
        if (!c.gone)
            sd_bus_emit_signal(c.bus, object_path, interface_name, "Event", "s", text.c_str());
}

} // namespace dek::kcm
