// SPDX-License-Identifier: Apache-2.0
#include "kcm/options.h"

#include "base/command_line.h"

namespace dek::kcm {
namespace {

const std::map<std::string, ShimChoice> shim_choices = {
    {"auto", ShimChoice::automatic}, {"kernel", ShimChoice::kernel}, {"fuse", ShimChoice::fuse}};
const std::map<std::string, Level> levels = {{"debug", Level::debug},
                                             {"info", Level::info},
                                             {"notice", Level::notice},
                                             {"warning", Level::warning},
                                             {"error", Level::error}};

struct Numbers {
    unsigned lifetime = 300;
    unsigned provider = 10;
    unsigned recover = 60;
    unsigned switch_back = 30;
};

std::string absolute_path(const std::string& text) {
    return text.empty() || text[0] == '/' ? std::string() : text + " is not an absolute path";
}

void add_options(CLI::App& app, Options& o, Numbers& n) {
    const CLI::Validator absolute(absolute_path, "PATH");
    app.add_option("--state-dir", o.state_dir, "where the keystore is")->check(absolute);
    app.add_option("--run-dir", o.run_dir, "lock, socket, records of attached volumes")
        ->check(absolute);
    app.add_option("--dev-dir", o.dev_dir, "where volumes are linked")->check(absolute);
    app.add_option("--shim-dir", o.shim_dir, "dek-shimd's folder (RUN/shim)")->check(absolute);
    add_choice(app, "--shim", o.shim, shim_choices, "which shim serves volumes");
    auto* alone = app.add_flag("--endpoints", o.endpoints_only,
                               "make the endpoints of the configuration, and end");
    app.add_option("--endpoint-of", o.endpoint_of,
                   "print the name of the configured endpoint that this device is for, and end")
        ->check(absolute)
        ->excludes(alone);
    auto* bus = app.add_flag("--system-bus", o.system_bus, "answer on the system bus only");
    app.add_option("--socket", o.socket, "answer on this private socket only")
        ->check(absolute)
        ->excludes(bus);
    app.add_option("--cache-lifetime", n.lifetime, "seconds a volume key is kept; 0: never kept")
        ->check(CLI::Range(0, 86400));
    app.add_option("--cache-keys", o.cache_keys, "at most so many")->check(CLI::Range(1, 100000));
    app.add_option("--provider-timeout", n.provider, "seconds a key provider may take")
        ->check(CLI::Range(1, 600));
    app.add_option("--recover-timeout", n.recover,
                   "seconds encrypted I/O waits for its keys after a restart of the shim")
        ->check(CLI::Range(1, 3600));
    app.add_option("--switch-back", n.switch_back,
                   "seconds an endpoint has to be well before a volume goes back to it")
        ->check(CLI::Range(0, 86400));
    add_choice(app, "--log-level", o.log_level, levels, "what is logged");
}

} // namespace

std::optional<ShimChoice> shim_choice_of(std::string_view text) {
    const auto found = shim_choices.find(std::string(text));
    return found == shim_choices.end() ? std::nullopt : std::optional(found->second);
}

tl::expected<Options, Usage> parse_options(int argc, char** argv) {
    Options options;
    Numbers numbers;
    CLI::App app{"kcmd: the key controller of dekstack", "kcmd"};
    app.set_version_flag("--version", std::string("kcmd ") + DEK_VERSION);
    add_options(app, options, numbers);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return tl::unexpected<Usage>(Usage{end_of_usage(app, e)});
    }
    options.cache_lifetime = std::chrono::seconds(numbers.lifetime);
    options.provider_timeout = std::chrono::seconds(numbers.provider);
    options.recover = std::chrono::seconds(numbers.recover);
    options.switch_back = std::chrono::seconds(numbers.switch_back);
    return options;
}

} // namespace dek::kcm
