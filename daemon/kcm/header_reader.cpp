// SPDX-License-Identifier: Apache-2.0
#include "kcm/header_reader.h"

#include <csignal>
#include <thread>

namespace dek::kcm {
namespace {

Result<ReadHeader> read_now(const std::string& path, const std::string& identity,
                            const HeaderQuery& query) {
    auto device = open_device(path, Access::read);
    if (!device)
        return tl::unexpected(device.error());
    if (!identity.empty() && device->identity() != identity)
        return fail(Errc::refused, path + " is another device now");
    auto sited = find_header(*device, query, Access::read);
    if (!sited)
        return tl::unexpected(sited.error());
    return ReadHeader{std::move(*device), std::move(*sited)};
}

} // namespace

Result<ReadHeader> HeaderReader::read(const std::string& path, const std::string& identity,
                                      const HeaderQuery& query) {
    const std::string lba = query.lba ? std::to_string(*query.lba) : "";
    const std::string key = path + '\n' + lba + '\n' + query.file;
    auto found = late_.find(key);
    auto patience = std::chrono::milliseconds(0);
    if (found == late_.end()) {
        std::packaged_task<Result<ReadHeader>()> task(
            [=] { return read_now(path, identity, query); });
        auto answer = task.get_future();
        std::thread([task = std::move(task)]() mutable {
            sigset_t all; // signals are the main thread's
            ::sigfillset(&all);
            ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
            task();
        }).detach();
        found = late_.emplace(key, std::move(answer)).first;
        patience = patience_;
    }
    if (found->second.wait_for(patience) != std::future_status::ready)
        return fail(Errc::timeout, path + " does not answer: the header cannot be read");
    auto done = std::move(found->second);
    late_.erase(found);
    return done.get();
}

} // namespace dek::kcm
