// SPDX-License-Identifier: Apache-2.0
// dekctl events, version.
#include <array>
#include <csignal>
#include <iostream>
#include <thread>

#include "printable.h"
#include "process_view.h"
#include "session.h"

namespace dek::ctl {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void note_interrupt(int) {
    interrupted = 1;
}

void end_on_interrupt() {
    struct sigaction action {};
    action.sa_handler = note_interrupt; // no SA_RESTART: the wait ends at once
    for (const int signal : {SIGINT, SIGTERM})
        ::sigaction(signal, &action, nullptr);
}

// For whoever watches; standard output has events only.
void say(const std::string& text) {
    std::cerr << "dekctl: events: " << printable(text) << std::endl;
}

struct Contact {
    bool ever = false; // somebody was there who answered
    bool now = false;  // on this connection
};

// On one connection, until it is lost.
Result<void> follow_one(Session& session, Contact& contact) {
    Result<Controller> controller = session.connect();
    if (!controller)
        return tl::unexpected<Error>(controller.error());
    // Tells at once whether anybody is there who would answer us.
    const auto ready = [&]() -> Result<void> {
        const Result<std::string> version =
            controller->call("Version", "{}", {}, session.timeout, [] {});
        if (!version)
            return tl::unexpected<Error>(version.error());
        if (contact.ever)
            say("kcmd is back");
        contact = {true, true};
        return {};
    };
    const auto show = [&](const std::string& text) {
        const Result<Json> event = parse_answer(text);
        if (!event)
            return; // not worth ending for; the next one may be sound
        if (session.json)
            session.out << json_text(*event, -1) << '\n';
        else
            print_event(session.out, *event);
        session.out.flush();
    };
    return controller->follow(ready, show, [&] { return interrupted || !session.out; });
}

// A restarted kcmd is waited for: what happens meanwhile nobody tells.
Result<void> follow(Session& session) {
    end_on_interrupt();
    Contact contact;
    while (!interrupted) {
        contact.now = false;
        const Result<void> done = follow_one(session, contact);
        if (done || done.error().code != Errc::unavailable || !contact.ever)
            return done;
        if (contact.now)
            say("the connection to kcmd is lost; waiting for it, events may be missed");
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    return {};
}

Action events(CLI::App&, Session& session) {
    return [&session] { return follow(session); };
}

Action version(CLI::App&, Session& session) {
    return [&session] { return session.answer("Version", print_version); };
}

constexpr std::array<Command, 2> commands{{
    {"events", "Follow what happens, until interrupted", events},
    {"version", "Show the versions of dekctl and of kcmd", version},
}};

} // namespace

std::span<const Command> process_commands() {
    return commands;
}

} // namespace dek::ctl
