// SPDX-License-Identifier: Apache-2.0
// The private socket: who is answered, and how errors look on the wire.
#include <atomic>
#include <thread>

#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "kcm/bus.h"

using namespace dek;
using namespace dek::kcm;

namespace {

// A bus that answers Version, on a loop in a thread of its own.
class Served {
  public:
    explicit Served(const std::string& path) {
        REQUIRE(sd_event_new(&loop_) >= 0);
        bus_ = std::make_unique<Bus>(loop_, [](std::unique_ptr<Call> call) {
            if (call->method->name == std::string("Version"))
                Bus::reply(*call, json{{"version", "test"}});
            else
                Bus::reply(*call, fail(Errc::wrong_key, "not this one"));
        });
        listened = bus_->listen(path).has_value();
        thread_ = std::thread([this] {
            while (!end_)
                sd_event_run(loop_, 20'000);
        });
    }
    ~Served() {
        end_ = true;
        thread_.join();
        bus_.reset();
        sd_event_unref(loop_);
    }
    bool listened = false;

  private:
    sd_event* loop_ = nullptr;
    std::unique_ptr<Bus> bus_;
    std::atomic<bool> end_{false};
    std::thread thread_;
};

int connected(const std::string& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
        return fd;
    ::close(fd);
    return -1;
}

// "name: message" of the error, or the answer.
std::string call(const std::string& path, const char* method, const char* text) {
    sd_bus* bus = nullptr;
    const int fd = connected(path);
    if (fd < 0 || sd_bus_new(&bus) < 0)
        return "not connected";
    sd_bus_set_fd(bus, fd, fd);
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message* reply = nullptr;
    std::string answer;
    if (sd_bus_start(bus) < 0)
        answer = "not started";
    else if (sd_bus_call_method(bus, nullptr, "/org/dekstack/Controller1",
                                "org.dekstack.Controller1", method, &error, &reply, "sah", text,
                                0) < 0)
        answer = std::string(error.name ? error.name : "?") + ": " +
                 (error.message ? error.message : "?");
    else {
        const char* s = nullptr;
        sd_bus_message_read(reply, "s", &s);
        answer = s;
    }
    sd_bus_message_unref(reply);
    sd_bus_error_free(&error);
    sd_bus_flush_close_unref(bus);
    return answer;
}

} // namespace

TEST_CASE("root is answered, errors have their names, unknown words their refusal") {
    const kcmtest::Folder folder;
    const std::string path = folder / "bus";
    Served served(path);
    REQUIRE(served.listened);
    struct stat st;
    REQUIRE(::stat(path.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);
    CHECK(call(path, "Version", "{}") == R"({"version":"test"})");
    CHECK(call(path, "CacheFlush", "{}") == "org.dekstack.Error.WrongKey: not this one");
    CHECK(call(path, "Version", "{\"x\": 1}").find("org.dekstack.Error.InvalidArgument") == 0);
    CHECK(call(path, "Version", "[").find("org.dekstack.Error.InvalidArgument") == 0);
    CHECK(call(path, "Nothing", "{}").find("UnknownMethod") != std::string::npos);
}

TEST_CASE("another user is not answered, even on a socket that lets him in") {
    if (::geteuid() != 0)
        return; // only root can become somebody else
    const kcmtest::Folder folder;
    const std::string path = folder / "bus";
    Served served(path);
    REQUIRE(served.listened);
    REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
    const auto as_nobody = [&] {
        const pid_t child = ::fork();
        if (child == 0) {
            if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
                ::_exit(3);
            const int fd = connected(path);
            if (fd < 0)
                ::_exit(2); // the socket's mode
            char byte;
            (void)!::send(fd, "\0AUTH EXTERNAL\r\n", 16, MSG_NOSIGNAL);
            ::_exit(::read(fd, &byte, 1) > 0 ? 0 : 1); // 1: closed without a word
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    };
    CHECK(as_nobody() == 2);
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    CHECK(as_nobody() == 1);
    CHECK(call(path, "Version", "{}") == R"({"version":"test"})");
}

TEST_CASE("every error code has a name of its own") {
    CHECK(error_name(Errc::invalid_argument) == "org.dekstack.Error.InvalidArgument");
    CHECK(error_name(Errc::no_space) == "org.dekstack.Error.NoSpace");
    CHECK(error_name(Errc::io) == "org.dekstack.Error.Io");
    CHECK(error_name(Errc::unknown_key) == "org.dekstack.Error.UnknownKey");
}
