// SPDX-License-Identifier: Apache-2.0
#include "session.h"

#include <iostream>

#include "printable.h"
#include "terminal.h"

namespace dek::ctl {

void Session::pass(const char* name, Fd descriptor) {
    arguments[name] = descriptors_.size();
    descriptors_.push_back(std::move(descriptor));
}

Result<Json> Session::call(const char* method) {
    Result<Controller> controller = connect();
    if (!controller)
        return tl::unexpected<Error>(controller.error());
    Waiting waiting(printable(about.empty() ? command : command + " " + about));
    const Result<std::string> text =
        controller->call(method, arguments.dump(), descriptors_, timeout, [&] { waiting.tick(); });
    descriptors_.clear();
    if (!text)
        return tl::unexpected<Error>(text.error());
    return parse_answer(*text);
}

void Session::print_warnings(const Json& answer) const {
    for (const Json& warning : array_at(answer, "warnings"))
        std::cerr << "dekctl: " << command << ": warning: " << text_of(warning) << '\n';
}

Result<void> Session::answer(const char* method, const View& view) {
    const Result<Json> result = call(method);
    if (!result)
        return tl::unexpected<Error>(result.error());
    if (json)
        print_json(*result);
    else if (view)
        view(out, *result);
    out.flush();
    print_warnings(*result);
    return {};
}

Result<void> confirm(Session& session, const std::string& what) {
    if (session.arguments.contains("force") || !can_ask())
        return {};
    if (!ask_yes(printable(what)))
        return fail(Errc::refused, "not confirmed, nothing was changed (--force does not ask)");
    session.arguments["force"] = true;
    return {};
}

} // namespace dek::ctl
