// SPDX-License-Identifier: Apache-2.0
// What `protect` is going to do, once every check has passed.
#pragma once

#include "kcm/controller.h"

namespace dek::kcm {

struct Controller::Plan {
    Device device;
    Fd claim;              // on the device, from the first check until the shim takes it over
    std::string shim;      // its kind
    volume::Header header; // keys in the order of their first use
    KeyRing ring;          // material of the keys there are already
    std::optional<std::size_t> new_key; // index of the one to be made
    std::string header_file;            // detached

    // Where the header will lie on the device, in LBAs; nothing for a detached one.
    std::optional<dek_range> header_place() const {
        if (header.place == volume::Place::detached)
            return std::nullopt;
        return dek_range{header.header_lba, volume::place_lbas(header.place)};
    }
};

} // namespace dek::kcm
