// SPDX-License-Identifier: Apache-2.0
// Each operation is done with its first allocation failing, then its second, until one goes through
// untouched. One that fails must have changed nothing: done again without a fault it succeeds.
#include "nth.h"

#include "client.h"
#include "mapper.h"

#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t length = 65536;
constexpr unsigned most = 300; // allocations of one operation

// The calling thread's own counter, /proc/thread-self/fail-nth.
class FailNth {
  public:
    FailNth() : file_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
        if (file_ < 0)
            throw std::runtime_error("the kernel has no fault injection");
    }
    ~FailNth() { ::close(file_); }
    FailNth(const FailNth&) = delete;
    FailNth& operator=(const FailNth&) = delete;

    void set(unsigned n) const {
        const std::string text = std::to_string(n);
        if (::pwrite(file_, text.data(), text.size(), 0) < 0)
            throw std::runtime_error("fail-nth cannot be set");
    }
    // True if the fault has come. Turns it off.
    [[nodiscard]] bool came() const {
        char text[16] = {};
        if (::pread(file_, text, sizeof text - 1, 0) < 0)
            throw std::runtime_error("fail-nth cannot be read");
        set(0);
        return std::string(text).substr(0, 1) == "0";
    }

  private:
    int file_;
};

struct Operation {
    const char* name;
    std::function<int()> run;   // 0: it went well
    std::function<void()> undo; // of one that went well
};

// False: not as it should be.
bool sweep(const FailNth& fail, const Operation& o, unsigned& faults) {
    for (unsigned n = 1; n <= most; n++) {
        fail.set(n);
        int result = o.run();
        const bool came = fail.came();
        faults += came;
        if (result != 0) {
            if (!came) {
                std::fprintf(stderr, "%s fails without a fault: %d\n", o.name, result);
                return false;
            }
            result = o.run();
            if (result != 0) {
                std::fprintf(stderr, "%s does not go well after its fault %u: %d\n", o.name, n,
                             result);
                return false;
            }
        }
        o.undo();
        if (!came) {
            std::printf("%s: %u allocations\n", o.name, n - 1);
            return true;
        }
    }
    std::fprintf(stderr, "%s: no end of faults\n", o.name);
    return false;
}

const Uuid uuid{0xde, 0xc0, 0xde, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
const std::string parameters = "dec0dec0-0000-0000-0000-000000000009 /dev/ram0 0 4096";

struct Stage {
    Mapper mapper{"nth"};
    Client client{uuid};
    std::uint64_t id = 0, handle = 0, token = 0, generation = 1;
    const Ranges all{{0, 8192}, {16384, 8192}, {40960, 8}};
    const Ranges part{{0, 4096}, {16384, 64}};
    const Ranges other{{64, 4096}, {16448, 8000}};
};

int associate(Stage& s) {
    s.handle = 0;
    return s.client.associate(s.id, s.handle, 1, s.part);
}

std::vector<Operation> operations(Stage& s) {
    const auto nothing = [] {};
    const auto disassociate = [&s] { s.client.disassociate(s.id, s.handle); };
    const auto release = [&s] { s.client.release(s.token); };
    return {
        {"load", [&s] { return s.mapper.load(0, length, parameters); }, [&s] { s.mapper.clear(); }},
        {"handshake", [&s] { return s.client.handshake(s.id); }, nothing},
        {"query", [&s] { return s.client.query(s.id, s.part); }, nothing},
        {"associate", [&s] { return associate(s); }, disassociate},
        {"quiesce",
         [&s] {
             return s.client.quiesce({0, 64}, 0, s.token);
         },
         release},
        {"map",
         [&s] {
             return s.client.map(s.generation, DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT, s.all);
         },
         [&s] { s.generation++; }},
        {"fence hold", [&s] { return s.client.fence(DEK_FENCE_HOLD); },
         [&s] { s.client.fence(DEK_FENCE_EIO); }},
    };
}

// With an association there, and one token.
std::vector<Operation> more_operations(Stage& s) {
    const auto refresh = [&s] {
        std::uint64_t handle = s.handle;
        return s.client.associate(s.id, handle, 1, s.part);
    };
    const auto update = [&s] {
        return s.client.associate(s.id, s.handle, 2, s.other, DEK_OP_UPDATE);
    };
    const auto back = [&s] { s.client.associate(s.id, s.handle, 1, s.part, DEK_OP_UPDATE); };
    return {
        {"refresh", refresh, [] {}},
        {"update", update, back},
        {"disassociate", [&s] { return s.client.disassociate(s.id, s.handle); },
         [&s] { associate(s); }},
        {"yield",
         [&s] {
             return s.client.yield(s.token, {40960, 8});
         },
         [&s] {
             s.client.map(++s.generation, DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT, s.all);
         }},
        {"release", [&s] { return s.client.release(s.token); },
         [&s] {
             s.client.quiesce({40960, 8}, 0, s.token);
         }},
        {"suspend", [&s] { return s.mapper.suspend(false); }, [&s] { s.mapper.resume(); }},
    };
}

bool all_of(const FailNth& fail, const std::vector<Operation>& list, unsigned& faults) {
    for (const Operation& o : list)
        if (!sweep(fail, o, faults))
            return false;
    return true;
}

void expect(int result, const char* what) {
    if (result != 0)
        throw std::runtime_error(std::string(what) + ": " + std::to_string(result));
}

} // namespace

bool fail_every_allocation() {
    const FailNth fail;
    Stage s;
    unsigned faults = 0;
    expect(s.mapper.create(), "create");
    const auto before = operations(s);
    if (!sweep(fail, before.front(), faults))
        return false;
    expect(s.mapper.load(0, length, parameters), "load");
    expect(s.mapper.resume(), "resume");
    expect(s.client.handshake(s.id), "handshake");
    bool good = all_of(fail, {before.begin() + 1, before.end()}, faults);
    if (good) {
        expect(associate(s), "associate");
        expect(s.client.quiesce({40960, 8}, 0, s.token), "quiesce");
        good = all_of(fail, more_operations(s), faults);
    }
    s.client.let_go();
    expect(s.mapper.remove(), "remove");
    std::printf("%u faults\n", faults);
    if (faults < 20)
        std::fprintf(stderr, "so few faults: is fault injection set up?\n");
    return good && faults >= 20;
}
