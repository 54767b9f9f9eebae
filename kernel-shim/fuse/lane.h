// SPDX-License-Identifier: Apache-2.0
// A lane: one thread that takes requests of all volumes from the kernel, looks them up, encrypts,
// submits, and answers. It never waits for anything but the next request or completion.
//
// A request's way: read_requests -> (fresh_) look_up -> (ready_) prepare -> (queued_) submit ->
// reap -> answered, or back to fresh_ for its next round. What must wait for keys or a release is
// parked in its berth and goes back to fresh_ after the next publication.
//
// The kernel wakes a lane that listens when a request comes. A lane that helps is called for large
// requests, whose data is worth another CPU, and when a listening lane has no room; for small
// ones, switching between threads would cost more than it gains. Everything gets done without help.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "aio.h"
#include "events.h"
#include "holds.h"
#include "request.h"
#include "volume.h"

namespace dek::shim {

// A volume in a lane: its descriptor there, and the requests that wait. The lane's own.
struct Berth {
    std::shared_ptr<Volume> volume;
    int fd = -1;
    Counters* counters = nullptr;
    RequestQueue waiting;
    unsigned waiting_requests = 0;
    unsigned waiting_large = 0;
    std::uint64_t seen_epoch = 0; // at the last look at `waiting`
    bool fresh_large = false;     // a large request is read but not looked up
    bool listening = false;       // its descriptor is in the epoll set
    bool readable = false;
    unsigned requests = 0;                    // taken and not answered: each points here
    std::shared_ptr<std::promise<void>> gone; // set: it is leaving; kept when nothing points here
};

// How many requests of one volume may wait in one lane before its descriptor is left alone (the
// kernel keeps the rest). Each volume brings this much memory with it, so volumes cannot starve
// each other.
constexpr unsigned kWaitingRequests = 32;
constexpr unsigned kWaitingLarge = 2;

// How listening lanes call those that help. Shared by all lanes of a worker.
class HelpCall {
  public:
    bool open();
    void call(); // cheap when nobody has come yet
    bool take() { return asked_.load(std::memory_order_relaxed) && asked_.exchange(false); }
    int fd() const { return event_.get(); } // readable, by edge, at each call

  private:
    std::atomic<bool> asked_{false};
    Fd event_;
};

enum class LaneRole { listens, helps };

class Lane {
  public:
    // `nudge` is called on the lane's thread when the control thread should look: something ended
    // while `watched` was not 0, or an event was added. `call` outlives the lane.
    static Result<std::unique_ptr<Lane>> create(unsigned index, LaneRole role, HelpCall& call,
                                                EventRing& events,
                                                const std::atomic<unsigned>& watched,
                                                std::function<void()> nudge);
    ~Lane(); // stops at once: what is under way is not answered

    // ---- for the control thread ----
    // False: no memory for another volume.
    bool attach(const std::shared_ptr<Volume>& volume, int fd);
    // Takes no more of it, fails what waits, and returns when what was under way has ended and the
    // lane has let go of the volume.
    void detach(const Volume& volume);
    // When this returns, every lookup begun before it has ended and its requests are on record.
    void grace() { const std::lock_guard guard(lock_); }
    // Waiting requests are to be looked up afresh.
    void wake();
    // Is anything under way in `volume` that was looked up before `epoch` and overlaps [first,
    // +count)?
    bool under_way(const Volume& volume, std::uint64_t epoch, std::uint64_t first,
                   std::uint64_t count);
    // Takes no more requests. Done when drained().
    void close();
    bool drained();
    // Answers what waits for keys or a release with an error (a kernel that would not send it
    // again). Returns when it is done.
    void fail_waiting();

  private:
    Lane(unsigned index, LaneRole role, HelpCall& call, Aio aio, Fd epoll, Fd wakeup,
         EventRing& events, const std::atomic<unsigned>& watched, std::function<void()> nudge);
    void run();
    void sleep();
    void take_postings();
    void post(std::function<void()> work);

    // lane.cpp: in and out
    bool read_requests();
    enum class Got { request, other, nothing, full, dead };
    Got read_one(Berth& berth);
    bool admit(Berth& berth, Request* r, std::size_t bytes);
    int judge(const Volume& volume, Request& r, std::size_t bytes);
    void busy(int more) {
        busy_.store(busy_.load(std::memory_order_relaxed) + static_cast<unsigned>(more),
                    std::memory_order_release);
    }
    void listen(Berth& berth, bool on);
    void answer_call();
    void set_waiting(Berth& berth, unsigned requests, unsigned large);
    void revisit_waiting();
    void fail_waiting(Berth& berth);
    void let_go();

    // lane_io.cpp: what happens to a request
    void look_up();
    bool examine(Request& r); // false: it must wait
    void fit_round(Request& r);
    void keep_waiting(Request* r);
    void prepare(Request* r);
    void aim(Request& r);
    bool submit(); // false: not all, and no completion will come to tell when to try again
    bool reap();
    void end_round(Request& r, long long result);
    void end_flush(Request& r, bool good);
    bool crypt(Request& r, bool encrypt);
    void release_pieces(Request& r);
    void finish(Request* r, int error);
    void give_large(Request& r);
    void count_round(const Request& r);
    void add_event(const Volume& volume, dek_event_type type, std::uint64_t lba);
    void fence_hit(Berth& berth, std::uint64_t lba);

    const unsigned index_;
    const LaneRole role_;
    HelpCall& call_;
    EventRing& events_;
    const std::atomic<unsigned>& watched_;
    std::function<void()> nudge_;
    Aio aio_;
    Fd epoll_, wakeup_;

    std::mutex lock_; // the read section; also guards postings_, pool growth
    std::vector<std::function<void()>> postings_;
    std::atomic<bool> posted_{false};
    std::atomic<bool> stop_{false};
    unsigned attached_ = 0, allowances_ = 0; // volumes now, and at most so far (control thread)
    std::atomic<unsigned> busy_{0};          // requests that are neither free nor waiting

    // The lane's own.
    bool closed_ = false;
    bool ended_ = false;   // something, in this round of the loop
    unsigned leaving_ = 0; // berths that are
    RequestPool pool_;
    std::uint8_t* landing_ = nullptr; // where the data of the next large write lands
    std::vector<std::unique_ptr<Berth>> berths_;
    RequestQueue fresh_, ready_, starved_;
    std::vector<iocb*> queued_;
    unsigned submitted_ = 0; // operations the kernel has
    Holds holds_;
    std::thread thread_;
};

} // namespace dek::shim
