// SPDX-License-Identifier: Apache-2.0
#include "kcm/dm_device.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <thread>

#include <libdevmapper.h>

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

bool add_table(dm_task* task, const std::vector<DmTarget>& table) {
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

Result<void> suspend(const std::string& name) {
    const Task task = named_task(DM_DEVICE_SUSPEND, name);
    if (!task || !dm_task_run(task.get()))
        return failed(task.get(), "device " + name + " cannot be suspended");
    return {};
}

Result<void> resume(const std::string& name, std::uint16_t udev_flags) {
    const Task task = named_task(DM_DEVICE_RESUME, name);
    const std::string what = "device " + name + " cannot be resumed";
    return task ? run_and_settle(task.get(), udev_flags, what) : failed(nullptr, what);
}

Result<void> load(const std::string& name, const std::vector<DmTarget>& table, bool read_only) {
    const Task task = named_task(DM_DEVICE_RELOAD, name);
    if (!task || !add_table(task.get(), table) || (read_only && !dm_task_set_ro(task.get())) ||
        !dm_task_run(task.get()))
        return failed(task.get(), "device " + name + " does not take its table");
    return {};
}

void clear_table(const std::string& name) {
    if (const Task task = named_task(DM_DEVICE_CLEAR, name))
        dm_task_run(task.get());
}

// The live one; empty where there is none.
Result<std::vector<DmTarget>> table_of(const std::string& name) {
    const Task task = named_task(DM_DEVICE_TABLE, name);
    if (!task || !dm_task_run(task.get()))
        return failed(task.get(), "the table of device " + name + " cannot be read");
    std::vector<DmTarget> table;
    void* next = nullptr;
    do {
        DmTarget t;
        char *type = nullptr, *parameters = nullptr;
        next = dm_get_next_target(task.get(), next, &t.first, &t.count, &type, &parameters);
        if (!type)
            break;
        t.type = type;
        t.parameters = parameters ? parameters : "";
        table.push_back(std::move(t));
    } while (next);
    return table;
}

// A table that is refused when it is to come live may have taken the old one's place by then.
Result<void> go_back(const std::string& name, const std::vector<DmTarget>& old, bool read_only,
                     std::uint16_t flags) {
    clear_table(name);
    if (!old.empty())
        if (auto r = load(name, old, read_only); !r)
            return r;
    return resume(name, flags);
}

constexpr std::uint16_t hidden_flags = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
                                       DM_UDEV_DISABLE_DISK_RULES_FLAG |
                                       DM_UDEV_DISABLE_OTHER_RULES_FLAG;

} // namespace

Result<std::optional<DmInfo>> dm_find(const std::string& uuid) {
    const Task task = new_task(DM_DEVICE_INFO);
    dm_info info;
    if (!task || !dm_task_set_uuid(task.get(), uuid.c_str()) || !dm_task_run(task.get()) ||
        !dm_task_get_info(task.get(), &info)) {
        if (task && dm_task_get_errno(task.get()) == ENXIO)
            return std::optional<DmInfo>();
        return failed(task.get(), "asking device-mapper for " + uuid);
    }
    if (!info.exists)
        return std::optional<DmInfo>();
    const char* name = dm_task_get_name(task.get());
    return DmInfo{name ? name : "",     "/dev/dm-" + std::to_string(info.minor),
                  info.open_count,      info.suspended != 0,
                  info.live_table != 0, info.read_only != 0};
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

Result<void> dm_replace(const std::string& name, const std::vector<DmTarget>& table, bool read_only,
                        bool hidden) {
    const std::uint16_t flags = hidden ? hidden_flags : 0;
    const auto old = table_of(name);
    if (!old)
        return tl::unexpected(old.error());
    if (auto r = load(name, table, read_only); !r)
        return r;
    if (auto r = suspend(name); !r) {
        clear_table(name);
        return r;
    }
    auto done = resume(name, flags);
    if (!done)
        if (auto back = go_back(name, *old, read_only, flags); !back)
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
