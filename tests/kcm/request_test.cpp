// SPDX-License-Identifier: Apache-2.0
// Arguments are strict, for every method there is: the table of methods is the table of cases.
#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include "kcm/methods.h"

using namespace dek;
using namespace dek::kcm;

namespace {

struct Call {
    json args = json::object();
    std::vector<int> fds;
};

void add(Call& call, const ArgSpec& spec) {
    json value;
    switch (spec.type) {
    case ArgType::text:
        value = "text";
        break;
    case ArgType::flag:
        value = true;
        break;
    case ArgType::number:
        value = 7;
        break;
    case ArgType::handle:
        value = "0xfedcba9876543210";
        break;
    case ArgType::object:
        value = {{"a", "b"}};
        break;
    case ArgType::list:
        value = json::array();
        break;
    case ArgType::fd:
        value = call.fds.size();
        call.fds.push_back(0);
        break;
    }
    call.args[spec.name] = value;
}

Call complete(const Method& method) {
    Call call;
    for (const auto& spec : method.args)
        add(call, spec);
    return call;
}

std::string refusal(const Method& method, const Call& call) {
    auto r = Request::parse(call.args.dump(), call.fds, method.args);
    if (r)
        return "";
    CHECK(r.error().code == Errc::invalid_argument);
    return r.error().reason;
}

std::vector<json> wrong_values(ArgType type) {
    const json big = (1ull << 53) + 1;
    switch (type) {
    case ArgType::text:
        return {1, true, nullptr, "", json::array(), std::string("a\0b", 3)};
    case ArgType::flag:
        return {0, 1, "true", nullptr};
    case ArgType::number:
        return {-1, 1.5, "7", true, nullptr, big};
    case ArgType::handle:
        return {"7", "0x", "0xg", "0x10000000000000000", -1, big, nullptr};
    case ArgType::object:
        return {"x", 1, json::array(), {{"a", 1}}};
    case ArgType::list:
        return {"x", 1, json::object(), nullptr};
    case ArgType::fd:
        return {99, -1, "0", nullptr};
    }
    return {};
}

} // namespace

TEST_CASE("every method of the interface's description is there, and no other") {
    const std::vector<std::string> described = {
        "Protect",         "Attach",        "Detach",         "Erase",          "Status",
        "Topology",        "Switch",        "Resize",         "HeaderShow",     "HeaderBackup",
        "HeaderRestore",   "KeyCreate",     "KeyImport",      "KeyExport",      "KeyList",
        "KeyShow",         "KeyState",      "KeyDestroy",     "KeystoreInit",   "KeystoreUnlock",
        "KeystoreLock",    "KeystoreEnrol", "KeystoreRemove", "KeystoreShow",   "KeystoreBackup",
        "KeystoreRestore", "CacheFlush",    "EndpointList",   "EndpointCreate", "EndpointRemove",
        "EndpointCommand", "Version"};
    for (const auto& name : described)
        CHECK(find_method(name) != nullptr);
    CHECK(all_methods().size() == described.size());
    CHECK(find_method("protect") == nullptr);
}

TEST_CASE("each method takes its arguments and refuses unknown, missing and wrong ones") {
    for (const auto& method : all_methods()) {
        INFO(method.name);
        const Call good = complete(method);
        CHECK(refusal(method, good).empty());

        Call unknown = good;
        unknown.args["colour"] = "red";
        CHECK(refusal(method, unknown).find("colour") != std::string::npos);

        Call extra_fd = good;
        extra_fd.fds.push_back(0);
        CHECK(refusal(method, extra_fd).find("descriptor") != std::string::npos);

        for (const auto& spec : method.args) {
            INFO(spec.name);
            if (spec.required && spec.type != ArgType::fd) {
                Call missing = good;
                missing.args.erase(spec.name);
                CHECK(refusal(method, missing).find(spec.name) != std::string::npos);
            }
            for (const auto& value : wrong_values(spec.type)) {
                INFO(value.dump());
                Call wrong = good;
                wrong.args[spec.name] = value;
                CHECK(refusal(method, wrong).find(spec.name) != std::string::npos);
            }
        }
    }
}

TEST_CASE("a handle fills 64 bits") {
    const std::vector<ArgSpec> specs = {{"a", ArgType::handle}};
    CHECK(Request::parse(R"({"a": "0xfedcba9876543210"})", {}, specs)->handle("a") ==
          0xfedcba9876543210u);
    CHECK(Request::parse(R"({"a": 9})", {}, specs)->handle("a") == 9);
    CHECK(Request::parse("{}", {}, specs)->handle("a") == 0);
}

TEST_CASE("two arguments cannot name one descriptor, and text is not JSON") {
    const std::vector<ArgSpec> specs = {{"a", ArgType::fd}, {"b", ArgType::fd}};
    const std::vector<int> fds = {0, 1};
    CHECK(Request::parse(R"({"a": 0, "b": 1})", fds, specs));
    CHECK_FALSE(Request::parse(R"({"a": 0, "b": 0})", fds, specs));
    CHECK_FALSE(Request::parse(R"({"a": 0})", fds, specs));
    CHECK_FALSE(Request::parse(R"({"fd:a": 0, "fd:b": 1})", fds, specs));
    for (const char* text : {"", "[]", "null", "{", "{\"a\":", "7", "\"x\""})
        CHECK_FALSE(Request::parse(text, {}, specs));
}

TEST_CASE("a secret comes whole, within its limit") {
    const std::vector<ArgSpec> specs = {{"key", ArgType::fd, true}};
    const auto sent = [&](std::size_t bytes, std::size_t max) {
        int pipe[2];
        REQUIRE(::pipe(pipe) == 0);
        const std::string data(bytes, 'k');
        REQUIRE(::write(pipe[1], data.data(), data.size()) == static_cast<ssize_t>(bytes));
        ::close(pipe[1]);
        auto r = Request::parse(R"({"key": 0})", std::vector<int>{pipe[0]}, specs);
        REQUIRE(r);
        auto secret = r->secret("key", max);
        ::close(pipe[0]);
        return secret;
    };
    REQUIRE(sent(64, 64));
    CHECK(sent(64, 64)->size() == 64);
    CHECK(sent(1, 64)->size() == 1);
    CHECK(sent(65, 64).error().code == Errc::invalid_argument);
    CHECK(sent(0, 64).error().code == Errc::invalid_argument);
}
