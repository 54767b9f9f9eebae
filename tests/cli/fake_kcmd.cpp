// SPDX-License-Identifier: Apache-2.0
// A scripted kcmd for tests of dekctl: fake_kcmd SOCKET FOLDER. Files in FOLDER/answers say what a
// method answers, and may change between calls:
//     METHOD.json       the answer's text, verbatim
//     METHOD.error      first word: the D-Bus error's name after org.dekstack.Error. (or, with a
//     dot in it,
//                       the whole name); the rest: its sentence
//     METHOD.die        the process ends without an answer
//     METHOD.silent     no answer ever
//     METHOD.number     the answer has the signature of a number
//     METHOD.output     beside .json: written to the first descriptor that can be written
//     events            sent as Event signals, one a line, after the next Version
// No file: unknown method. What came is kept: FOLDER/calls (method and arguments), FOLDER/dump
// (whole messages), FOLDER/METHOD.fdN (what a readable descriptor held), FOLDER/cmdline and environ
// of the caller.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;

std::string folder;

std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

fs::path scripted(const std::string& method, const char* kind) {
    return fs::path(folder) / "answers" / (method + "." + kind);
}

void take_descriptor(const std::string& method, int index, int fd) {
    const int mode = ::fcntl(fd, F_GETFL) & O_ACCMODE;
    if (mode != O_RDONLY) {
        const std::string text = content(scripted(method, "output"));
        if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
            std::abort();
        ::fcntl(fd, F_DUPFD_CLOEXEC,
                3); // never closed: dekctl must not wait for the end of the pipe
        return;
    }
    std::ofstream kept(folder + "/" + method + ".fd" + std::to_string(index), std::ios::binary);
    char buffer[4096];
    for (ssize_t n; (n = ::read(fd, buffer, sizeof(buffer))) > 0;)
        kept.write(buffer, n);
}

void keep_message(const std::string& method, sd_bus_message* message) {
    if (FILE* dump = std::fopen((folder + "/dump").c_str(), "a")) {
        sd_bus_message_dump(message, dump, SD_BUS_MESSAGE_DUMP_WITH_HEADER);
        std::fclose(dump);
        sd_bus_message_rewind(message, 1);
    }
    const char* arguments = "";
    sd_bus_message_read(message, "s", &arguments);
    std::ofstream(folder + "/calls", std::ios::app) << method << ' ' << arguments << '\n';
    sd_bus_message_enter_container(message, 'a', "h");
    int fd = -1;
    for (int i = 0; sd_bus_message_read(message, "h", &fd) > 0; ++i)
        take_descriptor(method, i, fd);
}

void keep_caller(int socket) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        std::abort();
    for (const char* what : {"cmdline", "environ"})
        std::ofstream(folder + "/" + what, std::ios::app | std::ios::binary)
            << content("/proc/" + std::to_string(peer.pid) + "/" + what) << '\n';
}

void send_events(sd_bus* bus) {
    std::ifstream lines(folder + "/answers/events");
    for (std::string line; std::getline(lines, line);)
        sd_bus_emit_signal(bus, "/org/dekstack/Controller1", "org.dekstack.Controller1", "Event",
                           "s", line.c_str());
    sd_bus_flush(bus);
}

int refuse(sd_bus_message* message, const std::string& text) {
    const std::size_t space = text.find(' ');
    std::string name = text.substr(0, space);
    if (name.find('.') == std::string::npos)
        name = "org.dekstack.Error." + name;
    std::string sentence = space == std::string::npos ? "" : text.substr(space + 1);
    if (sentence.ends_with('\n'))
        sentence.pop_back();
    return sd_bus_reply_method_errorf(message, name.c_str(), "%s", sentence.c_str());
}

int answer(sd_bus_message* message, void*, sd_bus_error*) {
    uint8_t type = 0;
    sd_bus_message_get_type(message, &type);
    const char* member = sd_bus_message_get_member(message);
    if (type != SD_BUS_MESSAGE_METHOD_CALL || !member)
        return 0;
    const std::string method = member;
    keep_message(method, message);
    if (fs::exists(scripted(method, "die")))
        std::_Exit(0);
    if (fs::exists(scripted(method, "silent")))
        return 1;
    if (fs::exists(scripted(method, "number")))
        return sd_bus_reply_method_return(message, "t", uint64_t{1});
    if (fs::exists(scripted(method, "error")))
        return refuse(message, content(scripted(method, "error")));
    if (!fs::exists(scripted(method, "json")))
        return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_UNKNOWN_METHOD, "no such method");
    const int r =
        sd_bus_reply_method_return(message, "s", content(scripted(method, "json")).c_str());
    if (method == "Version")
        send_events(sd_bus_message_get_bus(message));
    return r < 0 ? r : 1;
}

void serve(int socket) {
    keep_caller(socket);
    sd_bus* bus = nullptr;
    sd_id128_t id;
    if (sd_id128_randomize(&id) < 0 || sd_bus_new(&bus) < 0 ||
        sd_bus_set_fd(bus, socket, socket) < 0 || sd_bus_set_server(bus, 1, id) < 0 ||
        sd_bus_negotiate_fds(bus, 1) < 0 || sd_bus_add_filter(bus, nullptr, answer, nullptr) < 0 ||
        sd_bus_start(bus) < 0)
        std::abort();
    for (int r = 0; r >= 0;) {
        r = sd_bus_process(bus, nullptr);
        if (r == 0)
            r = sd_bus_wait(bus, UINT64_MAX);
    }
    sd_bus_close_unref(bus);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3)
        return 2;
    folder = argv[2];
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::string(argv[1]).copy(address.sun_path, sizeof(address.sun_path) - 1);
    ::unlink(argv[1]);
    const int listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listening, 8) != 0)
        return 1;
    std::cout << "ready" << std::endl;
    for (;;) {
        const int connection = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
        if (connection >= 0)
            serve(connection);
    }
}
