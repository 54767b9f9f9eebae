// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include "kcm/control_file.h"
#include "kcm/kernel_volume.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <unistd.h>

#include <openssl/evp.h>

namespace kcmtest {

using namespace dek;
using namespace dek::kcm;
namespace fs = std::filesystem;

namespace {

// Unsealing with a file costs no Argon2.
void open_keystore(KeystoreSeat& seat, const std::string& master) {
    if (!seat.open())
        throw std::runtime_error("the keystore cannot be opened");
    if (!seat.present() && !seat.init(keys::FileUnsealer{master}))
        throw std::runtime_error("the keystore cannot be made");
}

std::string digest_of(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EVP_MD_CTX* ctx = EVP_MD_CTX_new();
    EVP_DigestInit_ex(ctx, EVP_sha256(), nullptr);
    std::vector<char> buffer(1 << 20);
    for (ssize_t n; (n = ::read(fd, buffer.data(), buffer.size())) > 0;)
        EVP_DigestUpdate(ctx, buffer.data(), static_cast<std::size_t>(n));
    ::close(fd);
    unsigned char hash[32];
    EVP_DigestFinal_ex(ctx, hash, nullptr);
    EVP_MD_CTX_free(ctx);
    return {reinterpret_cast<char*>(hash), sizeof hash};
}

} // namespace

Folder::Folder() {
    std::string name = (fs::temp_directory_path() / "kcm-test-XXXXXX").string();
    if (!::mkdtemp(name.data()))
        throw std::runtime_error("no folder for the test");
    path_ = fs::canonical(name);
}

Folder::~Folder() {
    std::error_code none;
    if (!keep_)
        fs::remove_all(path_, none);
}

Bench::Bench() {
    restart();
}

Bench::Bench(std::string path) : folder(std::move(path)) {
    restart();
}

void Bench::restart(const Wrap& wrap) {
    controller.reset();
    keys.reset();
    seat.reset();
    Options options;
    options.state_dir = folder / "state";
    options.run_dir = folder / "run";
    options.dev_dir = folder / "dev";
    for (const auto& made : {options.state_dir, options.run_dir + "/volumes", options.dev_dir})
        fs::create_directories(made);
    seat = std::make_shared<KeystoreSeat>(options.state_dir + "/keystore.db");
    open_keystore(*seat, folder / "master.key");
    auto provider = make_seat_provider(seat);
    if (wrap)
        provider = wrap(std::move(provider));
    keys = std::make_shared<KeyService>(std::move(provider),
                                        KeyLimits{std::chrono::seconds(0), 64, provider_timeout});
    registry = std::make_shared<Registry>();
    auto its_backend = std::make_unique<CoreBackend>(folder.path());
    backend = its_backend.get();
    std::vector<ShimSite> sites;
    sites.push_back({"kernel", // which is not there
                     std::make_unique<Shim>(std::make_unique<ControlFile>(folder / "control",
                                                                          ControlFile::kernel_hint),
                                            std::chrono::milliseconds(0)),
                     std::make_unique<KernelVolumes>()});
    sites.push_back({"fuse",
                     std::make_unique<Shim>(std::make_unique<CoreTransport>(shim),
                                            std::chrono::milliseconds(100)),
                     std::move(its_backend)});
    ControllerParts parts{
        options, seat, keys, registry, Shims(std::move(sites)), [this](nlohmann::json event) {
            events.push_back(std::move(event));
        }};
    parts.lvm_files = {folder / "lvm.conf"};
    controller = std::make_unique<Controller>(std::move(parts));
    controller->load_records();
}

std::string Bench::image(const std::string& name, std::uint64_t lbas) const {
    const std::string path = folder / name;
    std::ofstream(path).close();
    fs::resize_file(path, lbas * 512);
    return path;
}

ProtectRequest Bench::request(const std::string& device, const std::string& name) const {
    ProtectRequest r;
    r.device = device;
    r.name = name;
    return r;
}

std::string Bench::events_text() const {
    std::string text;
    for (const auto& event : events)
        text += event.at("event").get<std::string>() + " ";
    return text;
}

std::string Bench::fingerprint() const {
    std::ostringstream out;
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path()))
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) {
        const std::string name = path.filename();
        if (name.rfind("keystore.db", 0) ==
            0) // SQLite's journal comes and goes; its keys are listed below
            continue;
        out << path.string() << ' ' << (fs::is_regular_file(path) ? digest_of(path) : "") << '\n';
    }
    auto list = seat->with(
        [](keys::Keystore& store) { return store.list(keys::Deadline(std::chrono::seconds(5))); });
    for (const auto& key : *list)
        out << key.id << ' ' << keys::state_name(key.state) << '\n';
    return out.str();
}

} // namespace kcmtest
