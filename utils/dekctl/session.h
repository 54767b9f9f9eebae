// SPDX-License-Identifier: Apache-2.0
// One run of dekctl: the global options, the call that the command line amounts to, and the table
// of commands it was found in.
#pragma once

#include <chrono>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "answer.h"
#include "base/fd.h"
#include "bus.h"

namespace dek::ctl {

// Prints an answer for people.
using View = std::function<void(std::ostream&, const Json&)>;

// Not thread-safe; lives as long as the program.
class Session {
  public:
    explicit Session(std::ostream& output) : out(output) {}

    std::ostream& out;
    std::string socket; // empty: the system bus, then the default socket
    std::chrono::seconds timeout{600};
    bool json = false;
    std::string command; // "key import"
    std::string about;   // what it is about, for error sentences: a device, a name
    Json arguments = Json::object();

    // Sends the descriptor along under the argument `name`.
    void pass(const char* name, Fd descriptor);
    Result<Controller> connect() const { return Controller::connect(socket); }
    Result<Json> call(const char* method);
    // call(), and the answer printed: as JSON, or by `view` (empty: nothing is said).
    Result<void> answer(const char* method, const View& view);
    // What the controller lets pass with a word of warning, on standard error.
    void print_warnings(const Json& answer) const;
    void print_json(const Json& answer) { out << json_text(answer, 2) << '\n'; }

  private:
    std::vector<Fd> descriptors_;
};

// Before something is lost for good: without --force, a person on a terminal is asked; yes is as
// good as --force. Nobody to ask: the controller refuses by itself.
Result<void> confirm(Session& session, const std::string& what);

using Action = std::function<Result<void>()>;

// One line of the table: declare() adds the command's options to `app`, bound to the session, and
// gives what runs once they are parsed.
struct Command {
    const char* name; // "key import"
    const char* what; // a phrase for the list of commands
    Action (*declare)(CLI::App& app, Session& session);
};

std::span<const Command> volume_commands();
std::span<const Command> key_commands();
std::span<const Command> keystore_commands();
std::span<const Command> header_commands();
std::span<const Command> endpoint_commands();
std::span<const Command> process_commands();

} // namespace dek::ctl
