// SPDX-License-Identifier: Apache-2.0
#include "session.h"

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

Result<void> Session::answer(const char* method, const View& view) {
    const Result<Json> result = call(method);
    if (!result)
        return tl::unexpected<Error>(result.error());
    if (json)
        print_json(*result);
    else if (view)
        view(out, *result);
    return {};
}

} // namespace dek::ctl
