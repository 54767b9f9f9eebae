// SPDX-License-Identifier: Apache-2.0
// dek-probe: says whether a device or an image is a dekstack volume. It opens what it looks at for
// reading only, needs no key and no daemon, and so verifies nothing: what it prints is what the
// header claims.
#include <cerrno>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/fs.h>
#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/command_line.h"
#include "base/fd.h"
#include "volume/header.h"

namespace {

using namespace dek;
using nlohmann::json;
using volume::CopyState;
using volume::Header;

constexpr int exit_found = 0, exit_error = 1, exit_nothing = 4;

struct Request {
    std::string device;
    std::optional<std::uint64_t> header_at;
    std::string header_file;
    bool as_json = false;
    bool as_udev = false;
    std::vector<std::string> links;
};

struct Sighting {
    std::uint64_t lba = 0; // of the device, or 0 in a header file
    volume::Found found;
};

struct Probed {
    std::vector<Sighting> sightings;
    std::optional<Error> trouble; // a header that is there and cannot be used
};

// Neither a FIFO nor a device without a medium makes this wait.
Result<Fd> open_for_reading(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd)
        return fail_errno(errno, path);
    return fd;
}

Result<std::uint64_t> size_in_lbas(const Fd& fd, const std::string& path) {
    struct stat info {};
    std::uint64_t bytes = 0;
    if (::fstat(fd.get(), &info) != 0)
        return fail_errno(errno, path);
    if (S_ISREG(info.st_mode))
        return static_cast<std::uint64_t>(info.st_size) / 512;
    if (!S_ISBLK(info.st_mode))
        return fail(Errc::invalid_argument, path + " is neither a block device nor a regular file");
    if (::ioctl(fd.get(), BLKGETSIZE64, &bytes) != 0)
        return fail_errno(errno, path);
    return bytes / 512;
}

void look_at(Probed& probed, const volume::Location& at, std::uint64_t lbas) {
    auto found = volume::read(at);
    if (!found) {
        if (found.error().code != Errc::not_found && !probed.trouble)
            probed.trouble = found.error();
        return;
    }
    const Header& header = found->copy.header;
    if (auto fits = volume::check_device(header, at, lbas); !fits && !probed.trouble)
        probed.trouble = fits.error();
    else if (fits)
        probed.sightings.push_back({at.byte / 512, std::move(*found)});
}

Result<Probed> probe_device(const Request& request) {
    const auto fd = open_for_reading(request.device);
    if (!fd)
        return tl::unexpected<Error>(fd.error());
    const auto lbas = size_in_lbas(*fd, request.device);
    if (!lbas)
        return tl::unexpected<Error>(lbas.error());
    Probed probed;
    auto places = volume::probe_lbas(*lbas);
    if (request.header_at)
        places = {*request.header_at};
    for (const std::uint64_t lba : places)
        look_at(probed, {fd->get(), lba * 512, false}, *lbas);
    return probed;
}

// The device is only asked for its size, where it is given.
Result<Probed> probe_file(const Request& request) {
    const auto fd = open_for_reading(request.header_file);
    if (!fd)
        return tl::unexpected<Error>(fd.error());
    if (auto regular = size_in_lbas(*fd, request.header_file); !regular)
        return tl::unexpected<Error>(regular.error());
    std::uint64_t lbas = volume::max_lbas;
    if (!request.device.empty()) {
        const auto device = open_for_reading(request.device);
        const auto size = device ? size_in_lbas(*device, request.device) : 0;
        if (!device || !size)
            return tl::unexpected<Error>(device ? size.error() : device.error());
        lbas = *size;
    }
    Probed probed;
    look_at(probed, {fd->get(), 0, true}, lbas);
    return probed;
}

// As udev wants it: what is not surely harmless in a link or a shell becomes \xNN.
std::string udev_value(const std::string& text) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string safe;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                           (byte >= 'a' && byte <= 'z') ||
                           std::string_view("#+-.:=@_/").find(c) != std::string_view::npos;
        if (plain)
            safe += c;
        else
            safe += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
    return safe;
}

// A header that is there and cannot be used still is one: others keep off.
void print_udev(const Probed& probed) {
    std::cout << "ID_FS_TYPE=dekstack\nID_FS_USAGE=crypto\n";
    if (probed.sightings.empty()) {
        std::cout << "DEK_STATE=" << udev_value(errc_name(probed.trouble->code)) << "\n";
        return;
    }
    const Sighting& seen = probed.sightings.front();
    const Header& header = seen.found.copy.header;
    const std::string uuid = udev_value(volume::uuid_text(header.uuid));
    std::cout << "ID_FS_UUID=" << uuid << "\nID_FS_UUID_ENC=" << uuid
              << "\nID_FS_VERSION=1\nDEK_STATE=" << (seen.found.torn ? "torn" : "valid")
              << "\nDEK_NAME=" << udev_value(header.name)
              << "\nDEK_PLACE=" << udev_value(volume::place_name(header.place))
              << "\nDEK_HEADER_LBA=" << seen.lba << "\n";
}

json described(const Sighting& seen) {
    json one = volume::to_json(seen.found.copy.header);
    one["copies"] = {{"a", volume::copy_state_name(seen.found.a)},
                     {"b", volume::copy_state_name(seen.found.b)}};
    one["encrypted_lbas"] = encrypted_lbas(seen.found.copy.header);
    one["authenticated"] = nullptr; // that needs the key
    return one;
}

void print_json(const Request& request, const Probed& probed) {
    json answer{{"device", request.device}, {"headers", json::array()}};
    if (!request.header_file.empty())
        answer["header"] = request.header_file;
    for (const Sighting& seen : probed.sightings)
        answer["headers"].push_back(described(seen));
    if (probed.trouble)
        answer["trouble"] = {{"code", errc_name(probed.trouble->code)},
                             {"reason", probed.trouble->reason}};
    // File names need not be UTF-8.
    std::cout << answer.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
}

void print_text(const Sighting& seen) {
    const Header& header = seen.found.copy.header;
    const std::string where = header.place == volume::Place::detached
                                  ? "in a file of its own"
                                  : "at LBA " + std::to_string(seen.lba);
    std::cout << "name:       " << header.name << "\n"
              << "uuid:       " << volume::uuid_text(header.uuid) << "\n"
              << "place:      " << volume::place_name(header.place) << ", header " << where << "\n"
              << "copies:     A " << volume::copy_state_name(seen.found.a) << ", B "
              << volume::copy_state_name(seen.found.b) << "\n"
              << "sequence:   " << header.sequence << "\n"
              << "size:       " << header.size << " LBAs, from LBA " << header.offset << "\n"
              << "data unit:  " << header.data_unit << ", tweak "
              << volume::tweak_name(header.tweak) << "\n"
              << "encrypted:  " << encrypted_lbas(header) << " LBAs in " << header.ranges.size()
              << " ranges\n";
}

int report(const Request& request, const Probed& probed) {
    const bool nothing = probed.sightings.empty() && !probed.trouble;
    if (request.as_json)
        print_json(request, probed);
    else if (request.as_udev && !nothing)
        print_udev(probed);
    else if (!request.as_udev)
        for (const Sighting& seen : probed.sightings)
            print_text(seen);
    if (probed.trouble)
        std::cerr << "dek-probe: " << probed.trouble->reason << "\n";
    if (nothing && !request.as_json && !request.as_udev)
        std::cerr << "dek-probe: nothing of dekstack on "
                  << (request.header_file.empty() ? request.device : request.header_file) << "\n";
    if (nothing)
        return exit_nothing;
    // udev drops what a program that fails has printed.
    return probed.trouble && !request.as_udev ? exit_error : exit_found;
}

// Links that lead to a device by what lies on it.
bool names_content(const std::string& link) {
    return link.find("disk/by-uuid/") != std::string::npos ||
           link.find("disk/by-label/") != std::string::npos;
}

int print_links(const std::vector<std::string>& links) {
    std::string kept;
    for (const std::string& link : links)
        if (!names_content(link))
            kept += (kept.empty() ? "" : " ") + link;
    std::cout << kept << "\n";
    return exit_found;
}

int run(const Request& request) {
    const auto probed = request.header_file.empty() ? probe_device(request) : probe_file(request);
    if (!probed) {
        std::cerr << "dek-probe: " << probed.error().reason << "\n";
        return exit_error;
    }
    return report(request, *probed);
}

} // namespace

int main(int argc, char** argv) {
    Request request;
    CLI::App app{
        "Says whether a device or an image is a dekstack volume. Exit status: 0 it is, 1 error "
        "or a header that cannot be used, 2 usage, 4 nothing found.",
        "dek-probe"};
    app.set_version_flag("--version", std::string("dek-probe ") + DEK_VERSION);
    auto* device = app.add_option("DEVICE", request.device, "block device or image file");
    auto* as_json = app.add_flag("--json", request.as_json, "print JSON");
    app.add_flag("--export", request.as_udev, "print KEY=VALUE lines for udev")->excludes(as_json);
    auto* file = app.add_option("--header", request.header_file, "the header is in this file");
    app.add_option("--header-at", request.header_at, "look at this LBA (512 bytes) only")
        ->check(CLI::Range(std::uint64_t{0}, volume::max_lbas))
        ->excludes(file);
    auto* links = app.add_option("--without-content-links", request.links,
                                 "print those of these links that are not by-uuid or by-label")
                      ->expected(0, -1)
                      ->excludes(device);
    try {
        app.parse(argc, argv);
        if (!*device && !*file && !*links)
            throw CLI::RequiredError("DEVICE");
    } catch (const CLI::ParseError& error) {
        return end_of_usage(app, error);
    }
    return *links ? print_links(request.links) : run(request);
}
