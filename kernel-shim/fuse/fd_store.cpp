// SPDX-License-Identifier: Apache-2.0
#include "fd_store.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <systemd/sd-daemon.h>

namespace dek::shim {
namespace {

std::string name_of(unsigned slot, std::size_t n) {
    return "v" + std::to_string(slot) + "." + std::to_string(n);
}

void store(const std::string& name, int fd) {
    const std::string state = "FDSTORE=1\nFDNAME=" + name;
    ::sd_pid_notify_with_fds(0, 0, state.c_str(), &fd, 1);
}

// v<slot>.<n>
bool parse(const char* name, unsigned& slot, unsigned& n) {
    int end = 0;
    return std::sscanf(name, "v%u.%u%n", &slot, &n, &end) == 2 && name[end] == '\0' && n < 64;
}

} // namespace

void store_table(int fd) {
    store("table", fd);
}

void store_volume(unsigned slot, const std::vector<Fd>& fds) {
    for (std::size_t i = 0; i < fds.size(); i++)
        store(name_of(slot, i), fds[i].get());
}

void unstore_volume(unsigned slot, std::size_t fds) {
    for (std::size_t i = 0; i < fds; i++)
        ::sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + name_of(slot, i)).c_str());
}

Restored restore_from_store() {
    Restored out;
    char** names = nullptr;
    const int count = ::sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count; i++) {
        Fd fd(SD_LISTEN_FDS_START + i);
        ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
        unsigned slot = 0, n = 0;
        if (std::string(names[i]) == "table") {
            out.table = std::move(fd);
        } else if (parse(names[i], slot, n)) {
            auto& fds = out.volumes[slot];
            if (fds.size() <= n)
                fds.resize(n + 1);
            fds[n] = std::move(fd);
        }
    }
    for (int i = 0; i < count; i++)
        std::free(names[i]);
    std::free(names);
    std::erase_if(out.volumes, [](const auto& volume) {
        for (const Fd& fd : volume.second)
            if (!fd)
                return true;
        return volume.second.size() < 2;
    });
    return out;
}

} // namespace dek::shim
