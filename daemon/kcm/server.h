// SPDX-License-Identifier: Apache-2.0
// The daemon: event loop, bus, threads, and what connects them to the controller.
#pragma once

#include <memory>

#include "kcm/options.h"

namespace dek::kcm {

class Server {
  public:
    explicit Server(Options options);
    ~Server();
    Result<void> start(); // keystore, records, bus
    int run();            // until SIGTERM or SIGINT; the exit code

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace dek::kcm
