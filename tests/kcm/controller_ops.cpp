// SPDX-License-Identifier: Apache-2.0
// One operation of the controller on a folder, for killpoints.py: what it leaves when it is killed
// half way, and what a kcmd that starts afterwards makes of it. The shim is the real core in this
// process, so it dies with it.
//
// controller_ops OPERATION FOLDER: exit 0 done; check-OPERATION: prints "old" or "new", exit 0;
// anything else: 1.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "bench.h"

using namespace dek;
using namespace dek::kcm;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048;
constexpr std::chrono::milliseconds patience{100};

int complain(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    return 1;
}

template <class T>
int told(const Result<T>& r) {
    return r ? 0 : complain(r.error().reason);
}

std::string image(const kcmtest::Bench& b) {
    return b.folder / "disk";
}

Result<VolumePtr> protect(kcmtest::Bench& b) {
    return b.controller->protect(b.request(image(b), "data"));
}

Result<volume::Copy> read_header(const std::string& path) {
    auto device = open_device(path, Access::read);
    if (!device)
        return tl::unexpected(device.error());
    return find_header(*device, {}, Access::read).map([](SitedHeader s) {
        return std::move(s.found.copy);
    });
}

// A detached volume and the backup of its header; before `recover` the header is gone, before
// `resize` the disk has grown.
int prepare(kcmtest::Bench& b, const std::string& what) {
    b.image("disk", 4 * mib);
    if (what == "protect" || what == "key")
        return 0;
    if (auto done = protect(b); !done)
        return told(done);
    if (auto done = b.controller->detach("data", patience); !done)
        return told(done);
    auto copy = read_header(image(b));
    if (!copy)
        return told(copy);
    const auto bytes = volume::encode_backup(*copy);
    std::ofstream(b.folder / "backup")
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (what == "recover")
        return told(b.controller->erase({image(b), {}, true, false}));
    if (what == "resize")
        fs::resize_file(image(b), 8 * mib * 512);
    return 0;
}

Result<VolumePtr> attach(kcmtest::Bench& b) {
    return b.controller->attach({image(b), {}, false, ShimChoice::automatic, ""});
}

int restore(kcmtest::Bench& b) {
    auto copy = volume::read_backup(b.folder / "backup");
    return copy ? told(b.controller->header_restore(image(b), {}, *copy, false)) : told(copy);
}

int operate(kcmtest::Bench& b, const std::string& what) {
    if (what == "protect")
        return told(protect(b));
    if (what == "attach")
        return told(attach(b));
    if (what == "resize") {
        auto v = attach(b);
        return v ? told(b.controller->resize("data", std::nullopt)) : told(v);
    }
    if (what == "erase")
        return told(b.controller->erase({image(b), {}, true, false}));
    if (what == "restore" || what == "recover")
        return restore(b);
    if (what == "replace") {
        auto r = b.request(image(b), "data");
        r.in_place = r.force = true;
        return told(b.controller->protect(r));
    }
    if (what == "key")
        return told(b.keys->create("made", 512, {}));
    return complain("no such operation");
}

// Nothing may be left that is neither old nor new: a record of a volume that nobody serves, a link
// to nothing.
int check_settled(kcmtest::Bench& b) {
    b.controller->resync();
    for (const auto& v : b.registry->all())
        if (v->reason.find("attach") == std::string::npos)
            return complain("a stale volume: " + v->reason);
    for (const auto& v : b.registry->all()) // complete records of volumes that died with the shim
        if (v->state != VolumeState::down)
            return complain("a volume without an endpoint is up");
    return 0;
}

// The header, if any, is whole, and the volume can be attached with its key.
int check_header(kcmtest::Bench& b, bool& there) {
    auto copy = read_header(image(b));
    there = copy.has_value();
    if (!copy)
        return copy.error().code == Errc::not_found ? 0 : complain(copy.error().reason);
    return told(attach(b));
}

int answer(bool is_new) {
    std::printf("%s\n", is_new ? "new" : "old");
    return 0;
}

// One header over another one's volume: whatever is found can be attached, and something is.
int check_replaced(kcmtest::Bench& b) {
    bool is_new = false;
    auto device = open_device(image(b), Access::read);
    const auto found = probe_headers(*device);
    for (const auto& [lba, header] : found) {
        auto v = b.controller->attach({image(b), {lba, ""}, false, ShimChoice::automatic, ""});
        if (!v)
            return told(v);
        if (auto done = b.controller->detach("data", patience); !done)
            return told(done);
        is_new = is_new || lba != 0;
    }
    return found.empty() ? complain("both headers are lost") : answer(is_new);
}

int check(kcmtest::Bench& b, const std::string& what) {
    if (check_settled(b) != 0)
        return 1;
    if (what == "key") {
        auto infos = b.keys->list();
        return infos ? answer(!infos->empty()) : told(infos);
    }
    if (what == "replace")
        return check_replaced(b);
    const bool recorded = !b.registry->all().empty();
    bool there = false;
    if (check_header(b, there) != 0)
        return 1;
    if (what == "protect" || what == "recover")
        return answer(there);
    if (what == "resize")
        return there ? answer(b.registry->find("data")->header.size == 7 * mib)
                     : complain("the header is lost");
    if (what == "attach")
        return there ? answer(recorded) : complain("the header is lost");
    if (what == "erase")
        return answer(!there);
    const auto sequence =
        read_header(image(b)).map([](const auto& c) { return c.header.sequence; });
    return there ? answer(*sequence > 1) : complain("the header is lost");
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3)
        return complain("controller_ops OPERATION FOLDER");
    const std::string what = argv[1];
    kcmtest::Bench b{std::string(argv[2])};
    if (what.rfind("prepare-", 0) == 0)
        return prepare(b, what.substr(8));
    if (what.rfind("check-", 0) == 0)
        return check(b, what.substr(6));
    return operate(b, what);
}
