// SPDX-License-Identifier: Apache-2.0
// dekctl events, version.
#include <array>
#include <csignal>

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

Result<void> follow(Session& session) {
    Result<Controller> controller = session.connect();
    if (!controller)
        return tl::unexpected<Error>(controller.error());
    end_on_interrupt();
    // Tells at once whether anybody is there who would answer us.
    const auto ready = [&]() -> Result<void> {
        const Result<std::string> version =
            controller->call("Version", "{}", {}, session.timeout, [] {});
        return version ? Result<void>() : tl::unexpected<Error>(version.error());
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
