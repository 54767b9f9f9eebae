// SPDX-License-Identifier: Apache-2.0
// A controller with everything real but the shim's I/O: keystore, headers, records, links, in a
// folder of its own.
#pragma once

#include <filesystem>
#include <functional>

#include <nlohmann/json.hpp>

#include "core_shim.h"
#include "kcm/controller.h"

namespace kcmtest {

// Removed when it goes, unless it was given.
class Folder {
  public:
    Folder();
    explicit Folder(std::string path) : path_(std::move(path)), keep_(true) {}
    ~Folder();
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
    bool keep_ = false;
};

// The keystore's provider inside another one; nothing: as it is.
using Wrap =
    std::function<std::unique_ptr<dek::keys::Provider>(std::unique_ptr<dek::keys::Provider>)>;

struct Bench {
    Bench();
    explicit Bench(std::string folder); // one that exists and stays

    // kcmd anew: nothing but what is on disk, the shim and the block devices stay.
    void restart(const Wrap& wrap = {});

    std::string image(const std::string& name, std::uint64_t lbas) const; // a fresh file
    dek::kcm::ProtectRequest request(const std::string& device, const std::string& name) const;
    std::string events_text() const;
    // Everything on disk that an operation could change, as one text to compare.
    std::string fingerprint() const;

    Folder folder;
    std::chrono::milliseconds provider_timeout{300};
    std::shared_ptr<CoreShim> shim = std::make_shared<CoreShim>();
    std::shared_ptr<dek::kcm::KeystoreSeat> seat;
    std::shared_ptr<dek::kcm::KeyService> keys;
    std::shared_ptr<dek::kcm::Registry> registry;
    CoreBackend* backend = nullptr; // the controller's
    std::vector<nlohmann::json> events;
    std::unique_ptr<dek::kcm::Controller> controller;
};

} // namespace kcmtest
