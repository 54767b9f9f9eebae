// SPDX-License-Identifier: Apache-2.0
// What the kernel shim tells by itself, by generic netlink (dek/netlink.h).
#pragma once

#include <string>
#include <thread>

#include "base/fd.h"
#include "kcm/events.h"

struct nl_msg;
struct nl_sock;

namespace dek::kcm {

// A thread that waits for the module, and then for events. Callbacks as ShimWatch's: `up` also
// after events were lost, when the state is to be read anew; never `down`, a loaded module does not
// go away under its endpoints.
class KernelWatch {
  public:
    // control: the module's device, which is there when the module is.
    KernelWatch(std::string control, ShimWatch::Callbacks callbacks);
    ~KernelWatch();
    KernelWatch(const KernelWatch&) = delete;
    KernelWatch& operator=(const KernelWatch&) = delete;

  private:
    void run();
    bool listen(nl_sock* socket);
    void serve(nl_sock* socket);
    int take(nl_msg* message);

    std::string control_;
    ShimWatch::Callbacks callbacks_;
    std::uint64_t sequence_ = 0; // of the last event; 0: none yet
    bool lost_ = false;
    Fd stop_;
    std::thread thread_;
};

} // namespace dek::kcm
