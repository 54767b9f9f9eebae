// SPDX-License-Identifier: Apache-2.0
#include "kcm/signature.h"

#include <fstream>
#include <memory>
#include <sstream>

#include <blkid/blkid.h>

namespace dek::kcm {
namespace {

std::string value_of(blkid_probe probe, const char* name) {
    const char* data = nullptr;
    std::size_t size = 0;
    if (::blkid_probe_lookup_value(probe, name, &data, &size) != 0 || size == 0)
        return "";
    return {data, size - 1}; // the size counts a NUL
}

std::uint64_t number_of(const std::string& text) {
    return text.empty() ? 0 : std::stoull(text);
}

Signature signature_of(blkid_probe probe, std::uint64_t base) {
    Signature s;
    s.type = value_of(probe, "TYPE");
    if (!s.type.empty()) {
        s.byte = base + number_of(value_of(probe, "SBMAGIC_OFFSET"));
        s.uuid = value_of(probe, "UUID");
        s.label = value_of(probe, "LABEL");
        return s;
    }
    s.type = value_of(probe, "PTTYPE");
    s.partition_table = true;
    s.byte = base + number_of(value_of(probe, "PTMAGIC_OFFSET"));
    return s;
}

} // namespace

std::string Signature::text() const {
    const bool vowel = type.find_first_of("aeiou") == 0;
    return (vowel ? "an " : "a ") + type + (partition_table ? " partition table" : " signature");
}

Result<std::vector<Signature>> find_signatures(int fd, std::uint64_t byte, std::uint64_t n,
                                               const std::string& what) {
    const std::unique_ptr<blkid_struct_probe, void (*)(blkid_probe)> probe(::blkid_new_probe(),
                                                                           ::blkid_free_probe);
    if (!probe || ::blkid_probe_set_device(probe.get(), fd, static_cast<blkid_loff_t>(byte),
                                           static_cast<blkid_loff_t>(n)) != 0)
        return fail(Errc::io, what + " cannot be searched for signatures");
    ::blkid_probe_enable_superblocks(probe.get(), 1);
    ::blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_MAGIC |
                                                         BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL |
                                                         BLKID_SUBLKS_BADCSUM);
    ::blkid_probe_enable_partitions(probe.get(), 1);
    ::blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
    std::vector<Signature> found;
    int answer;
    while ((answer = ::blkid_do_probe(probe.get())) == 0)
        found.push_back(signature_of(probe.get(), byte));
    if (answer < 0)
        return fail(Errc::io, what + " cannot be searched for signatures");
    return found;
}

bool is_swap_or_root(const Signature& signature, const std::string& fstab,
                     const std::string& cmdline) {
    if (signature.type == "swap" || signature.type == "swsuspend")
        return true;
    const auto is_this = [&](const std::string& spec) {
        return (!signature.uuid.empty() && spec == "UUID=" + signature.uuid) ||
               (!signature.label.empty() && spec == "LABEL=" + signature.label);
    };
    std::ifstream table(fstab);
    for (std::string line; std::getline(table, line);) {
        std::istringstream fields(line);
        std::string spec, where;
        if (fields >> spec >> where && where == "/" && is_this(spec))
            return true;
    }
    std::ifstream words(cmdline);
    for (std::string word; words >> word;)
        if (word.rfind("root=", 0) == 0 && is_this(word.substr(5)))
            return true;
    return false;
}

} // namespace dek::kcm
