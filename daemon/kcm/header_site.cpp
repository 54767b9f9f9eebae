// SPDX-License-Identifier: Apache-2.0
#include "kcm/header_site.h"

#include <cerrno>

#include <fcntl.h>

#include "kcm/header_reader.h"

namespace dek::kcm {
namespace {

HeaderSite site_at(const Device& device, std::uint64_t lba) {
    HeaderSite site;
    site.location.fd = device.fd.get();
    site.location.byte = lba * 512;
    site.lba = lba;
    site.device_path = device.path;
    return site;
}

Result<HeaderSite> site_in_file(const Device& device, const std::string& file, Access access) {
    if (file[0] != '/')
        return fail(Errc::invalid_argument, "\"" + file + "\" is not an absolute path");
    HeaderSite site;
    site.file = file;
    site.device_path = device.path;
    site.file_fd = Fd(::open(file.c_str(), (access == Access::write ? O_RDWR : O_RDONLY) |
                                               O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!site.file_fd)
        return fail_errno(errno, "header file " + file + " cannot be opened");
    site.location.fd = site.file_fd.get();
    site.location.header_file = true;
    return site;
}

Result<SitedHeader> read_site(Result<HeaderSite> site) {
    if (!site)
        return tl::unexpected(site.error());
    auto found = read_header(site->location);
    if (!found)
        return fail(found.error().code, site->text() + ": " + found.error().reason);
    return SitedHeader{std::move(*site), std::move(*found)};
}

Result<SitedHeader> search(const Device& device) {
    std::optional<SitedHeader> first;
    std::optional<Error> trouble; // worse than "nothing here"
    for (auto& [lba, here] : probe_headers(device)) {
        if (!here && !trouble)
            trouble = here.error();
        if (!here)
            continue;
        if (first)
            return fail(Errc::refused, device.path + " has headers at LBA " +
                                           std::to_string(first->site.lba) + " and LBA " +
                                           std::to_string(lba) +
                                           "; --header-at says which one is meant");
        first = std::move(*here);
    }
    if (first)
        return std::move(*first);
    if (trouble)
        return tl::unexpected(*trouble);
    return fail(Errc::not_found, device.path + " holds no dekstack header where one is looked for "
                                               "(LBA 0, LBA 1024, the last 512); --header-at or "
                                               "--header says where else it lies");
}

} // namespace

std::string HeaderSite::text() const {
    return file.empty() ? "LBA " + std::to_string(lba) + " of " + device_path : file;
}

Result<HeaderSite> header_site(const Device& device, const HeaderQuery& query, Access access) {
    if (query.lba && !query.file.empty())
        return fail(Errc::invalid_argument, "the header is either at an LBA or in a file");
    if (!query.file.empty())
        return site_in_file(device, query.file, access);
    const std::uint64_t lba = query.lba.value_or(0);
    if (device.lbas < volume::header_lbas || lba > device.lbas - volume::header_lbas)
        return fail(Errc::invalid_argument,
                    "a header at LBA " + std::to_string(lba) + " does not fit on " + device.path);
    return site_at(device, lba);
}

std::vector<Probed> probe_headers(const Device& device) {
    std::vector<Probed> found;
    for (const auto lba : volume::probe_lbas(device.lbas)) {
        auto here = read_site(site_at(device, lba));
        if (here || here.error().code != Errc::not_found)
            found.push_back({lba, std::move(here)});
    }
    return found;
}

Result<SitedHeader> find_header(const Device& device, const HeaderQuery& query, Access access) {
    if (query.lba || !query.file.empty())
        return read_site(header_site(device, query, access));
    return search(device);
}

} // namespace dek::kcm
