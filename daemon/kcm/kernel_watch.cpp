// SPDX-License-Identifier: Apache-2.0
#include "kcm/kernel_watch.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <dek/netlink.h>

#include "base/log.h"

namespace dek::kcm {
namespace {

struct SocketDeleter {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};

// Every attribute has its exact size, or the message is not one of ours.
bool parse(nl_msg* message, dek_event& event) {
    nla_policy policy[DEK_NL_A_END] = {};
    for (const int a :
         {DEK_NL_A_SEQUENCE, DEK_NL_A_GENERATION, DEK_NL_A_TIME, DEK_NL_A_HANDLE, DEK_NL_A_LBA})
        policy[a].type = NLA_U64;
    policy[DEK_NL_A_TYPE].type = NLA_U32;
    policy[DEK_NL_A_UUID].minlen = policy[DEK_NL_A_UUID].maxlen = DEK_UUID_SIZE;
    nlattr* a[DEK_NL_A_END];
    const auto* head = static_cast<const genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
    if (genlmsg_parse(nlmsg_hdr(message), 0, a, DEK_NL_A_END - 1, policy) < 0 ||
        head->cmd != DEK_NL_EVENT || !a[DEK_NL_A_SEQUENCE] || !a[DEK_NL_A_TYPE] ||
        !a[DEK_NL_A_UUID])
        return false;
    const auto number = [&](int which) { return a[which] ? nla_get_u64(a[which]) : 0; };
    std::memset(&event, 0, sizeof event);
    event.sequence = number(DEK_NL_A_SEQUENCE);
    event.generation = number(DEK_NL_A_GENERATION);
    event.time_ns = number(DEK_NL_A_TIME);
    event.handle = number(DEK_NL_A_HANDLE);
    event.lba = number(DEK_NL_A_LBA);
    event.type = nla_get_u32(a[DEK_NL_A_TYPE]);
    std::memcpy(event.uuid, nla_data(a[DEK_NL_A_UUID]), DEK_UUID_SIZE);
    return true;
}

} // namespace

KernelWatch::KernelWatch(std::string control, ShimWatch::Callbacks callbacks)
    : control_(std::move(control)), callbacks_(std::move(callbacks)),
      stop_(::eventfd(0, EFD_CLOEXEC)), thread_([this] { run(); }) {
    ::pthread_setname_np(thread_.native_handle(), "kernel-watch");
}

KernelWatch::~KernelWatch() {
    const std::uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) == sizeof one)
        thread_.join();
    else
        thread_.detach();
}

// False: there is no such family, as long as the module is not loaded. To ask for it would have the
// kernel start modprobe each time.
bool KernelWatch::listen(nl_sock* socket) {
    if (::access(control_.c_str(), F_OK) != 0 || genl_connect(socket) < 0)
        return false;
    const int group = genl_ctrl_resolve_grp(socket, DEK_NL_FAMILY, DEK_NL_GROUP);
    if (group < 0 || nl_socket_add_membership(socket, group) < 0 ||
        nl_socket_set_nonblocking(socket) < 0)
        return false;
    nl_socket_disable_seq_check(socket);           // nothing here answers a request
    nl_socket_set_buffer_size(socket, 1 << 20, 0); // what does not fit is lost
    return nl_socket_modify_cb(
               socket, NL_CB_VALID, NL_CB_CUSTOM,
               [](nl_msg* message, void* self) {
                   return static_cast<KernelWatch*>(self)->take(message);
               },
               this) == 0;
}

int KernelWatch::take(nl_msg* message) {
    dek_event event;
    if (!parse(message, event))
        return NL_OK;
    lost_ = lost_ || (sequence_ && event.sequence != sequence_ + 1);
    sequence_ = event.sequence;
    callbacks_.event(event);
    return NL_OK;
}

void KernelWatch::serve(nl_sock* socket) {
    for (;;) {
        pollfd p[2] = {{nl_socket_get_fd(socket), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        if (::poll(p, 2, -1) < 0 && errno != EINTR)
            return;
        if (p[1].revents)
            return;
        if (!p[0].revents)
            continue;
        const int r = nl_recvmsgs_default(socket);
        lost_ = lost_ || r == -NLE_NOMEM; // ENOBUFS: what did not fit was dropped
        if (std::exchange(lost_, false)) {
            log(Level::warning, "kernel-events-lost");
            callbacks_.up();
        }
    }
}

void KernelWatch::run() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pollfd stop{stop_.get(), POLLIN, 0};
    do {
        const std::unique_ptr<nl_sock, SocketDeleter> socket(nl_socket_alloc());
        if (socket && listen(socket.get())) {
            callbacks_.up();
            serve(socket.get());
        }
    } while (::poll(&stop, 1, 2000) == 0);
}

} // namespace dek::kcm
