// SPDX-License-Identifier: Apache-2.0
#include "kcm/dm_device.h"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <memory>
#include <thread>

#include <libdevmapper.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"

namespace dek::kcm {
namespace {

// What libdevmapper would print goes to the log, where nobody is confused by it.
void take_message(int level, const char*, int, int, const char* format, ...) {
    if ((level & 7) > 4) // notices and debugging
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log(Level::debug, "device-mapper", {{"message", text}});
}

struct TaskDeleter {
    void operator()(dm_task* task) const { dm_task_destroy(task); }
};
using Task = std::unique_ptr<dm_task, TaskDeleter>;

Task new_task(int type) {
    static const bool once = [] {
        dm_log_with_errno_init(take_message);
        return true;
    }();
    (void)once;
    return Task(dm_task_create(type));
}

tl::unexpected<Error> failed(dm_task* task, const std::string& what) {
    const int error = task ? dm_task_get_errno(task) : ENOMEM;
    return fail_errno(error ? error : EINVAL, what);
}

Task named_task(int type, const std::string& name) {
    Task task = new_task(type);
    if (task && !dm_task_set_name(task.get(), name.c_str()))
        task.reset();
    return task;
}

constexpr std::uint16_t hidden_flags = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
                                       DM_UDEV_DISABLE_DISK_RULES_FLAG |
                                       DM_UDEV_DISABLE_OTHER_RULES_FLAG;

bool add_table(dm_task* task, const DmTable& table) {
    for (const auto& t : table)
        if (!dm_task_add_target(task, t.first, t.count, t.type.c_str(), t.parameters.c_str()))
            return false;
    return true;
}

// Not for ever: an udev that has died, or hangs in a rule of somebody's, must not stop kcmd.
void wait_for_udev(std::uint32_t cookie) {
    if (!cookie || !dm_udev_get_sync_support()) // no udev runs; libdevmapper makes the nodes
        return;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (int ready = 0; dm_udev_wait_immediate(cookie, &ready) && !ready;) {
        if (std::chrono::steady_clock::now() >= until)
            return log(Level::warning, "udev-does-not-answer", {{"cookie", cookie}});
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

// A call of this thread that is still in the kernel when `after` has passed comes back from there
// with EINTR, as one that waits for I/O does for any signal.
class Interruption {
  public:
    explicit Interruption(std::chrono::milliseconds after) {
        static const bool once = [] {
            struct sigaction action = {};
            action.sa_handler = [](int) {};
            return ::sigaction(signal, &action, nullptr) == 0;
        }();
        sigset_t mine;
        ::sigemptyset(&mine);
        ::sigaddset(&mine, signal);
        ::pthread_sigmask(SIG_UNBLOCK, &mine, &before_);
        sigevent event = {};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event._sigev_un._tid = ::gettid();
        armed_ = once && ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
        const auto s = std::chrono::duration_cast<std::chrono::seconds>(after);
        const itimerspec at = {{1, 0}, {s.count(), (after - s).count() * 1000000 + 1}};
        if (armed_)
            ::timer_settime(timer_, 0, &at, nullptr);
    }
    ~Interruption() {
        if (armed_)
            ::timer_delete(timer_);
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;

  private:
    static constexpr int signal = SIGURG; // ignored by everybody who does not ask for it
    timer_t timer_{};
    bool armed_ = false;
    sigset_t before_{};
};

// A task that makes the kernel send an event, and udev's answer to it.
Result<void> run_and_settle(dm_task* task, std::uint16_t udev_flags, const std::string& what) {
    std::uint32_t cookie = 0;
    if (!dm_task_set_cookie(task, &cookie, udev_flags))
        return fail(Errc::internal, what + ": no semaphore to wait for udev");
    const bool ran = dm_task_run(task) != 0;
    const int error = dm_task_get_errno(task);
    wait_for_udev(cookie);
    dm_task_update_nodes();
    return ran ? Result<void>() : Result<void>(fail_errno(error ? error : EINVAL, what));
}

// Whoever else uses dm-crypt has the key itself in the line: it is left where it is.
std::string without_key(const std::string& type, const char* parameters) {
    const std::string_view all(parameters ? parameters : "");
    const auto cipher = all.find(' ');
    if (type != "crypt" || cipher == all.npos || all.substr(cipher, 2) == " :")
        return std::string(all);
    const auto key_end = std::min(all.find(' ', cipher + 1), all.size());
    return std::string(all.substr(0, cipher)) + " -" + std::string(all.substr(key_end));
}

// The lines that the task's question is answered with.
Result<DmTable> lines_of(const Task& task, const std::string& what) {
    if (!task || !dm_task_secure_data(task.get()) || !dm_task_run(task.get()))
        return failed(task.get(), what);
    DmTable table;
    void* next = nullptr;
    do {
        layers::TableLine line;
        char *type = nullptr, *parameters = nullptr;
        next = dm_get_next_target(task.get(), next, &line.first, &line.count, &type, &parameters);
        if (!type)
            break;
        line.type = type;
        line.parameters = without_key(line.type, parameters);
        table.push_back(std::move(line));
    } while (next);
    return table;
}

// A table that is refused when it is to come live may have taken the old one's place by then.
Result<void> go_back(const std::string& name, const DmTable& old, bool read_only, bool hidden) {
    dm_clear(name);
    if (!old.empty())
        if (auto r = dm_load(name, old, read_only); !r)
            return r;
    return dm_resume(name, hidden);
}

bool without_freeze(dm_task* task) {
    return dm_task_skip_lockfs(task) && dm_task_no_flush(task);
}

Result<std::optional<DmInfo>> info_of(Task task, const std::string& what) {
    dm_info info;
    if (!task || !dm_task_run(task.get()) || !dm_task_get_info(task.get(), &info)) {
        if (task && dm_task_get_errno(task.get()) == ENXIO)
            return std::optional<DmInfo>();
        return failed(task.get(), "asking device-mapper for " + what);
    }
    if (!info.exists)
        return std::optional<DmInfo>();
    const char* name = dm_task_get_name(task.get());
    const char* uuid = dm_task_get_uuid(task.get());
    return DmInfo{name ? name : "",
                  "/dev/dm-" + std::to_string(info.minor),
                  std::to_string(info.major) + ":" + std::to_string(info.minor),
                  info.open_count,
                  info.suspended != 0,
                  info.live_table != 0,
                  info.inactive_table != 0,
                  info.read_only != 0,
                  uuid ? uuid : ""};
}

} // namespace

Result<std::optional<DmInfo>> dm_find(const std::string& uuid) {
    Task task = new_task(DM_DEVICE_INFO);
    if (task && !dm_task_set_uuid(task.get(), uuid.c_str()))
        task.reset();
    return info_of(std::move(task), uuid);
}

Result<std::optional<DmInfo>> dm_find_name(const std::string& name) {
    return info_of(named_task(DM_DEVICE_INFO, name), name);
}

Result<std::optional<DmInfo>> dm_find_number(dev_t number) {
    Task task = new_task(DM_DEVICE_INFO);
    if (task && (!dm_task_set_major(task.get(), static_cast<int>(major(number))) ||
                 !dm_task_set_minor(task.get(), static_cast<int>(minor(number)))))
        task.reset();
    return info_of(std::move(task),
                   std::to_string(major(number)) + ":" + std::to_string(minor(number)));
}

Result<std::vector<DmInfo>> dm_list() {
    const Task task = new_task(DM_DEVICE_LIST);
    if (!task || !dm_task_run(task.get()))
        return failed(task.get(), "asking device-mapper for its devices");
    std::vector<DmInfo> all;
    const dm_names* names = dm_task_get_names(task.get());
    while (names && names->dev) {
        auto info = dm_find_number(names->dev);
        if (!info)
            return tl::unexpected(info.error());
        if (*info) // or it has gone since
            all.push_back(std::move(**info));
        if (names->next == 0)
            break;
        names =
            reinterpret_cast<const dm_names*>(reinterpret_cast<const char*>(names) + names->next);
    }
    return all;
}

Result<DmTable> dm_table(const std::string& name) {
    return lines_of(named_task(DM_DEVICE_TABLE, name),
                    "the table of device " + name + " cannot be read");
}

Result<DmTable> dm_status(const std::string& name) {
    Task task = named_task(DM_DEVICE_STATUS, name);
    if (task && !dm_task_no_flush(task.get()))
        task.reset();
    return lines_of(task, "the status of device " + name + " cannot be read");
}

Result<void> dm_message(const std::string& name, std::uint64_t sector, const std::string& message) {
    const Task task = named_task(DM_DEVICE_TARGET_MSG, name);
    if (!task || !dm_task_set_sector(task.get(), sector) ||
        !dm_task_set_message(task.get(), message.c_str()) || !dm_task_run(task.get()))
        return failed(task.get(), "device " + name + " does not take the message " + message);
    return {};
}

Result<std::vector<dev_t>> dm_beneath(const std::string& name) {
    const Task task = named_task(DM_DEVICE_DEPS, name);
    const std::string what = "asking for the devices beneath " + name;
    if (!task || !dm_task_run(task.get()))
        return failed(task.get(), what);
    const dm_deps* deps = dm_task_get_deps(task.get());
    if (!deps)
        return failed(nullptr, what);
    return std::vector<dev_t>(deps->device, deps->device + deps->count);
}

Result<void> dm_create(const DmCreate& create) {
    const Task task = named_task(DM_DEVICE_CREATE, create.name);
    const std::string what = "device " + create.name + " cannot be made";
    if (!task || !dm_task_set_uuid(task.get(), create.uuid.c_str()) ||
        !add_table(task.get(), create.table) || (create.read_only && !dm_task_set_ro(task.get())))
        return failed(nullptr, what);
    const auto made = run_and_settle(task.get(), create.hidden ? hidden_flags : 0, what);
    if (!made && made.error().code == Errc::busy)
        return fail(Errc::busy, what + ": its name, its UUID or the device beneath is in use");
    return made;
}

Result<void> dm_rename(const std::string& from, const std::string& to) {
    const Task task = named_task(DM_DEVICE_RENAME, from);
    const std::string what = "device " + from + " cannot become " + to;
    if (!task || !dm_task_set_newname(task.get(), to.c_str()))
        return failed(nullptr, what);
    return run_and_settle(task.get(), 0, what);
}

Result<void> dm_make_node(const std::string& name) {
    if (dm_udev_get_sync_support())
        return {};
    const Task task = named_task(DM_DEVICE_MKNODES, name);
    if (!task || !dm_task_run(task.get()))
        return failed(task.get(), "the node of device " + name + " cannot be made");
    dm_task_update_nodes();
    return {};
}

Result<void> dm_suspend(const std::string& name, Freeze freeze,
                        std::chrono::milliseconds patience) {
    const Task task = named_task(DM_DEVICE_SUSPEND, name);
    const std::string what = "device " + name + " cannot be suspended";
    if (!task || (freeze == Freeze::no && !without_freeze(task.get())))
        return failed(task.get(), what);
    const Interruption alarm(patience);
    if (dm_task_run(task.get()))
        return {};
    if (dm_task_get_errno(task.get()) != EINTR)
        return failed(task.get(), what);
    return fail(Errc::timeout, what + ": I/O to it has not ended within " +
                                   std::to_string(patience.count() / 1000) + " s");
}

Result<void> dm_resume(const std::string& name, bool hidden, Freeze freeze) {
    const Task task = named_task(DM_DEVICE_RESUME, name);
    const std::string what = "device " + name + " cannot be resumed";
    if (task && freeze == Freeze::no && !without_freeze(task.get()))
        return failed(task.get(), what);
    const Interruption alarm(suspend_patience);
    return task ? run_and_settle(task.get(), hidden ? hidden_flags : 0, what)
                : failed(nullptr, what);
}

Result<void> dm_load(const std::string& name, const DmTable& table, bool read_only) {
    const Task task = named_task(DM_DEVICE_RELOAD, name);
    if (!task || !add_table(task.get(), table) || (read_only && !dm_task_set_ro(task.get())) ||
        !dm_task_run(task.get()))
        return failed(task.get(), "device " + name + " does not take its table");
    return {};
}

void dm_clear(const std::string& name) {
    if (const Task task = named_task(DM_DEVICE_CLEAR, name))
        dm_task_run(task.get());
}

Result<void> dm_replace(const std::string& name, const DmTable& table, bool read_only,
                        bool hidden) {
    const auto old = dm_table(name);
    if (!old)
        return tl::unexpected(old.error());
    if (auto r = dm_load(name, table, read_only); !r)
        return r;
    if (auto r = dm_suspend(name, Freeze::yes, suspend_patience); !r) {
        dm_clear(name);
        return r;
    }
    auto done = dm_resume(name, hidden);
    if (!done)
        if (auto back = go_back(name, *old, read_only, hidden); !back)
            return fail(done.error().code,
                        done.error().reason + "; " + back.error().reason + ": it stays suspended");
    return done;
}

Result<void> dm_replace_held(const std::string& name, const DmTable& table) {
    const auto old = dm_table(name);
    if (!old)
        return tl::unexpected(old.error());
    if (auto r = dm_load(name, table, false); !r)
        return r;
    if (auto r = dm_suspend(name, Freeze::no); !r) {
        dm_clear(name);
        return r;
    }
    auto done = dm_resume(name, false);
    if (!done)
        if (auto back = go_back(name, *old, false, false); !back)
            return fail(done.error().code,
                        done.error().reason + "; " + back.error().reason + ": it stays suspended");
    return done;
}

Result<void> dm_remove(const std::string& name, std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const Task task = named_task(DM_DEVICE_REMOVE, name);
        if (!task)
            return failed(nullptr, "device " + name + " cannot be removed");
        const auto done = run_and_settle(task.get(), 0, "device " + name + " cannot be removed");
        if (done || done.error().code == Errc::not_found)
            return {};
        if (done.error().code != Errc::busy || std::chrono::steady_clock::now() >= until)
            return done;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

} // namespace dek::kcm
