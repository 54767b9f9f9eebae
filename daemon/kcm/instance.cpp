// SPDX-License-Identifier: Apache-2.0
#include "kcm/instance.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace dek::kcm {
Result<Fd> lock_in(const std::string& directory) {
    const std::string path = directory + "/kcmd.lock";
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd)
        return fail_errno(errno, path + " cannot be opened");
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        return fail(Errc::busy, "another kcmd works in " + directory);
    return fail_errno(errno, path + " cannot be locked");
}

Result<void> make_directory(const std::string& path, mode_t mode) {
    for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        const std::string parent = path.substr(0, at);
        if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST)
            return fail_errno(errno, parent + " cannot be made");
    }
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
        return fail_errno(errno, path + " cannot be made");
    struct stat st;
    if (::stat(path.c_str(), &st) != 0)
        return fail_errno(errno, path + " cannot be looked at");
    if (!S_ISDIR(st.st_mode))
        return fail(Errc::invalid_argument, path + " is not a directory");
    return {};
}

Result<Instance> Instance::take(const Options& options) {
    const std::pair<std::string, mode_t> wanted[] = {{options.state_dir, 0700},
                                                     {options.run_dir, 0755},
                                                     {options.run_dir + "/volumes", 0700},
                                                     {options.dev_dir, 0755}};
    for (const auto& [path, mode] : wanted)
        if (auto made = make_directory(path, mode); !made)
            return tl::unexpected(made.error());
    Instance instance;
    auto state = lock_in(options.state_dir);
    if (!state)
        return tl::unexpected(state.error());
    instance.state_ = std::move(*state);
    auto run = lock_in(options.run_dir);
    if (!run)
        return tl::unexpected(run.error());
    instance.run_ = std::move(*run);
    return instance;
}

} // namespace dek::kcm
