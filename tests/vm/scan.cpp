// SPDX-License-Identifier: Apache-2.0
// Scans what dm-log-writes recorded of one leg of a volume.
//   vm_scan LOG [--key FILE] [--unit BYTES] [--tweak unit|lba512]
//           [--map FIRST-LAST[:DEVICE-ORIGIN]@ORIGIN[/CHUNK/STRIPES/LEG]]...
//           [--plain FIRST-LAST[@ORIGIN]]... [--allow any|zeros|discards|FIRST-LAST]...
//           [--text TEXT]... [--least N]
// --key, --unit and --tweak are for the maps after them; a key is 32 or 64 bytes as they are. LBAs
// of --map and --plain are the leg's, and the volume's behind the @; of --allow the volume's.
// Prints what is wrong and counts; exit status 0 when all is right, and something was looked at.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "scanner.h"

namespace {

std::vector<std::uint8_t> key_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.empty())
        throw std::runtime_error("no key in " + path);
    return {bytes.begin(), bytes.end()};
}

void allow(ScanRules& rules, const std::string& what) {
    if (what == "any")
        rules.any = true;
    else if (what == "zeros")
        rules.zeros = true;
    else if (what == "discards")
        rules.discards = true;
    else
        rules.free.push_back(parse_lba_range(what));
}

void option(ScanRules& rules, ScanKey& key, const std::string& name, const std::string& value) {
    if (name == "--key")
        key.bytes = key_of(value);
    else if (name == "--unit")
        key.unit = static_cast<unsigned>(std::stoul(value));
    else if (name == "--tweak" && (value == "unit" || value == "lba512"))
        key.by_unit = value == "unit";
    else if (name == "--map")
        rules.maps.push_back(parse_crypt_map(value, key));
    else if (name == "--plain")
        rules.plain.push_back(parse_plain_map(value));
    else if (name == "--allow")
        allow(rules, value);
    else if (name == "--text")
        rules.texts.push_back(value);
    else if (name == "--least")
        rules.least = std::stoull(value);
    else
        throw std::runtime_error("no option " + name + " " + value);
}

ScanRules rules_of(int argc, char** argv) {
    ScanRules rules;
    ScanKey key;
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 == argc)
            throw std::runtime_error(std::string(argv[i]) + " needs a value");
        option(rules, key, argv[i], argv[i + 1]);
    }
    return rules;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fputs("usage: vm_scan LOG [OPTION VALUE]...\n", stderr);
        return 2;
    }
    try {
        Scanner scanner(rules_of(argc, argv));
        WriteLog log(argv[1]);
        std::vector<std::uint8_t> data;
        bool whole = false; // the device has gone; where the log was full this is missing
        for (WriteEntry e; log.next(e);) {
            log.data(data);
            whole = e.flags & WriteEntry::MARK && log.mark() == "dm-log-writes-end";
            scanner.judge(e, data);
        }
        for (const std::string& failure : scanner.failures())
            std::puts(failure.c_str());
        std::printf("vm_scan: %s: %s\n", argv[1], scanner.summary().c_str());
        if (!whole)
            std::puts("the log has no end: the device is there, or the log was full");
        return scanner.good() && whole ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vm_scan: %s\n", e.what());
        return 2;
    }
}
