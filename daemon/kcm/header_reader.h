// SPDX-License-Identifier: Apache-2.0
// Headers of devices that may stand still.
#pragma once

#include <future>
#include <map>

#include "kcm/header_site.h"

namespace dek::kcm {

// A header with the device that its site borrows from.
struct ReadHeader {
    Device device;
    SitedHeader sited;
};

// Over a multipath without paths a read waits until one is back, which only kcmd brings about: so
// its operations thread does not wait for it. Not thread-safe.
class HeaderReader {
  public:
    explicit HeaderReader(std::chrono::milliseconds patience = std::chrono::seconds(5))
        : patience_(patience) {}

    // As open_device() and find_header(). Errc::timeout: it has not answered yet; who asks again
    // gets what the same read found when it did. Errc::refused: the device has another `identity`
    // (empty: any).
    Result<ReadHeader> read(const std::string& path, const std::string& identity,
                            const HeaderQuery& query);

  private:
    std::chrono::milliseconds patience_;
    std::map<std::string, std::future<Result<ReadHeader>>> late_; // by path and query
};

} // namespace dek::kcm
