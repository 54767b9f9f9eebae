// SPDX-License-Identifier: Apache-2.0
// RUN/volumes/NAME.json: what a restarted kcmd has to know of a volume that the shim still serves.
// The truth about its ranges and keys stays in the header; the record says where that is.
#pragma once

#include <vector>

#include "kcm/volume.h"

namespace dek::kcm {

struct Record {
    std::string name;
    Uuid uuid{};
    std::string device;
    std::string identity;
    std::optional<std::uint64_t> header_lba; // of the device
    std::string header_file;                 // or this
    std::string shim;
    bool read_only = false;
    std::vector<std::string> keys; // IDs; none: not known
    Wish wish = Wish::automatic;
    bool strayed = false;
    bool complete = false; // false: its making had begun; nobody was told of it yet
};

class Records {
  public:
    explicit Records(std::string directory) : directory_(std::move(directory)) {}
    // Atomic: the old record or the new one.
    Result<void> write(const Record& record) const;
    void remove(const std::string& name) const;
    // What cannot be understood is logged, renamed NAME.json.bad and left out.
    std::vector<Record> all() const;

  private:
    std::string path_of(const std::string& name) const { return directory_ + "/" + name + ".json"; }
    std::string directory_;
};

Record record_of(const Volume& volume, bool complete);

} // namespace dek::kcm
