// SPDX-License-Identifier: Apache-2.0
// dekctl: the command line of dekstack. Finds the command in the table, turns its options into one
// call to kcmd, prints the answer. Exit status: 0 done, 1 failed, 2 usage.
#include <algorithm>
#include <array>
#include <iostream>

#include "base/secret.h"
#include "bus_error.h"
#include "options.h"
#include "printable.h"
#include "session.h"

namespace dek::ctl {
namespace {

enum Exit { done = 0, failed = 1, usage = 2 };

struct Group {
    const char* name;
    const char* what;
};
constexpr std::array<Group, 5> groups{{
    {"key", "Keys"},
    {"keystore", "The keystore and what unseals it"},
    {"header", "Volume headers"},
    {"endpoint", "The protocol by hand"},
    {"cache", "Keys in memory"},
}};

constexpr const char* footer =
    "\nEvery command takes --socket, --timeout and --json as well. dekctl(8) has it all.";

// A command of the table that has been added to the parser.
struct Entry {
    const Command* command;
    CLI::App* app;
    Action action;
};

void global_options(CLI::App& app, Session& session) {
    app.set_help_flag("-h,--help", "Show this and exit");
    app.set_version_flag("--version", "dekctl " DEK_VERSION, "Show the version of dekctl and exit");
    app.add_flag("--json", session.json, "Print kcmd's answer as JSON");
    app.add_option("--socket", session.socket,
                   "kcmd's private socket; without it, the system bus is tried first")
        ->type_name("PATH")
        ->take_last();
    app.add_option_function<std::string>(
           "--timeout",
           [&session](const std::string& text) {
               const std::uint64_t seconds = number_from(text, "--timeout");
               if (seconds > 1'000'000)
                   usage_error("--timeout", "is at most 1000000 seconds");
               session.timeout = std::chrono::seconds(seconds);
           },
           "Seconds to wait for an answer; 0: for ever; default 600")
        ->type_name("SECONDS");
}

// The group of "key import" is "key"; it is made when its first command comes.
CLI::App& parent_of(const std::string& name, CLI::App& top) {
    const std::size_t space = name.find(' ');
    if (space == std::string::npos)
        return top;
    const std::string word = name.substr(0, space);
    const auto found =
        top.get_subcommands([&](const CLI::App* app) { return app->get_name() == word; });
    if (!found.empty())
        return *found.front();
    const auto* group =
        std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return word == g.name; });
    CLI::App* made = top.add_subcommand(word, group == groups.end() ? "" : group->what);
    made->require_subcommand(1)->fallthrough()->footer(footer);
    return *made;
}

std::vector<Entry> add_commands(CLI::App& top, Session& session) {
    std::vector<Entry> entries;
    for (const auto& table : {volume_commands(), key_commands(), keystore_commands(),
                              header_commands(), endpoint_commands(), process_commands()})
        for (const Command& command : table) {
            const std::string name = command.name;
            CLI::App* app =
                parent_of(name, top).add_subcommand(name.substr(name.find(' ') + 1), command.what);
            app->fallthrough()->footer(footer);
            entries.push_back({&command, app, command.declare(*app, session)});
        }
    return entries;
}

int say_failed(const Session& session, const Error& error) {
    std::string line = "dekctl: " + session.command;
    if (!session.about.empty())
        line += " " + printable(session.about);
    line += ": " + printable(error.reason);
    if (const std::string help = advice(error); !help.empty())
        line += "; " + help;
    std::cout.flush();
    std::cerr << line << '\n';
    return failed;
}

// What stands where a command was expected; a word that a group does not know falls through to the
// top.
std::string stray_word(const CLI::App& app) {
    if (!app.get_require_subcommand_min() || !app.get_subcommands().empty())
        return "";
    for (const CLI::App* at = &app; at != nullptr; at = at->get_parent())
        for (const std::string& word : at->remaining())
            if (!word.starts_with("-"))
                return word;
    return "";
}

// The parser's sentence, unless it complains of a missing command where there is a wrong one.
std::string reason_of(const CLI::App& app, const CLI::ParseError& error) {
    const std::string reason = error.what();
    if (error.get_name() != "RequiredError" || reason.find("ubcommand") == std::string::npos)
        return reason;
    const std::string word = stray_word(app);
    return word.empty() ? "a command is required" : "there is no command " + word;
}

// The innermost command of the command line.
const CLI::App& innermost(const CLI::App& top) {
    const CLI::App* app = &top;
    while (!app->get_subcommands().empty())
        app = app->get_subcommands().front();
    return *app;
}

int say_usage(const CLI::App& top, const CLI::ParseError& error) {
    const CLI::App* app = &innermost(top);
    std::string name;
    for (const CLI::App* at = app; at != &top; at = at->get_parent())
        name = " " + at->get_name() + name;
    std::cerr << "dekctl:" << (name.empty() ? "" : name + ":") << ' '
              << printable(reason_of(*app, error)) << "; see dekctl" << name << " --help\n";
    return usage;
}

int run_command(const std::vector<Entry>& entries, Session& session) {
    for (const Entry& entry : entries) {
        if (!entry.app->parsed())
            continue;
        session.command = entry.command->name;
        const Result<void> result = entry.action();
        if (!result)
            return say_failed(session, result.error());
        session.out.flush();
        if (!session.out)
            return say_failed(session, {Errc::io, "cannot write to standard output"});
        return done;
    }
    return usage;
}

bool all_utf8(int argc, char** argv) {
    for (int i = 1; i < argc; ++i)
        if (!valid_utf8(argv[i])) {
            std::cerr << "dekctl: this argument is not UTF-8: " << printable(argv[i]) << '\n';
            return false;
        }
    return true;
}

int run(int argc, char** argv) {
    if (!all_utf8(argc, argv))
        return usage;
    Session session(std::cout);
    CLI::App top("dekctl: encrypted volumes and the keys, layers and endpoints behind them",
                 "dekctl");
    global_options(top, session);
    top.require_subcommand(1);
    const std::vector<Entry> entries = add_commands(top, session);
    try {
        top.parse(argc, argv);
        return run_command(entries, session);
    } catch (const CLI::Success& help) { // --help, --version
        if (!stray_word(innermost(top)).empty())
            return say_usage(top, CLI::RequiredError("Subcommand"));
        top.exit(help, std::cout, std::cerr);
        return done;
    } catch (const CLI::ParseError& error) {
        return say_usage(top, error);
    }
}

} // namespace
} // namespace dek::ctl

int main(int argc, char** argv) {
    dek::harden_process();
    try {
        return dek::ctl::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "dekctl: " << dek::ctl::printable(e.what()) << '\n';
        return 1;
    }
}
