// SPDX-License-Identifier: Apache-2.0
// Where the header of a device is: told, or looked for.
#pragma once

#include <optional>

#include "kcm/device.h"
#include "volume/header.h"

namespace dek::kcm {

// What the caller said of the place; neither: look for it. Both at once is refused.
struct HeaderQuery {
    std::optional<std::uint64_t> lba; // of the device
    std::string file;                 // absolute path of a detached header; empty: on the device
};

// A place where a header is or will be. Borrows the device's descriptor, owns the file's.
struct HeaderSite {
    volume::Location location;
    std::uint64_t lba = 0; // of the device, unless `file`
    std::string file;
    Fd file_fd;

    std::string text() const; // "LBA 1024 of /dev/sdb", "/root/sdb.header"
    std::string device_path;
};

struct SitedHeader {
    HeaderSite site;
    volume::Found found;
};

// The place itself, whatever lies there. The device must outlive it.
Result<HeaderSite> header_site(const Device& device, const HeaderQuery& query, Access access);

// The header. Errc::not_found, corrupt and the like as volume::read; Errc::timeout as
// read_header(); Errc::refused when several places hold one and the caller did not say which.
Result<SitedHeader> find_header(const Device& device, const HeaderQuery& query, Access access);

// What lies where a header is looked for without being told, as far as it is one: those that can be
// read, and why others cannot.
struct Probed {
    std::uint64_t lba = 0;
    Result<SitedHeader> header;
};
std::vector<Probed> probe_headers(const Device& device);

} // namespace dek::kcm
