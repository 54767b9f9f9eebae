// SPDX-License-Identifier: Apache-2.0
// samples DIRECTORY: headers of every place and size, and some that must be refused, for a second
// reader; what they say stands in DIRECTORY/expected.json.
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "sample.h"

using namespace dek;
using namespace dek::test;
using nlohmann::json;
using volume::Header;

namespace {

void must(const Result<void>& done) {
    if (!done)
        throw std::runtime_error(done.error().reason);
}

class Samples {
  public:
    explicit Samples(std::string directory) : directory_(std::move(directory)) {}

    void add(const std::string& name, const Header& header, const Secret& key) {
        const std::string file = add_key(name, key);
        const Fd fd = make_image(path(name), header.place == volume::Place::detached ? 0 : 20480);
        const std::uint64_t byte = header.header_lba * 512;
        must(volume::write({fd.get(), byte}, header, key));
        expected_.push_back(
            {{"file", name}, {"key", file}, {"place_byte", byte}, {"says", said(header)}});
        must(volume::backup({fd.get(), byte}, path(name + ".backup"), false));
        expected_.push_back(
            {{"file", name + ".backup"},
             {"key", file},
             {"backup", true},
             {"says", {{"uuid", volume::uuid_text(header.uuid)}, {"sequence", header.sequence}}}});
    }

    // Changes the image of one that was added: bytes written at `byte`, and what a reader has to
    // say then.
    void spoil(const std::string& name, std::uint64_t byte, const Bytes& bytes, const json& says) {
        const Fd fd = make_image(path(name), 20480);
        put_bytes(fd.get(), byte, bytes);
        for (json& one : expected_)
            if (one["file"] == name)
                one["says"] = says;
    }

    json said(const Header& header) const {
        json ranges = json::array();
        for (const auto& range : header.ranges)
            ranges.push_back({range.lbas.first, range.lbas.count, header.keys[range.key].id});
        return {{"uuid", volume::uuid_text(header.uuid)},
                {"name", header.name},
                {"place", volume::place_name(header.place)},
                {"size", header.size},
                {"offset", header.offset},
                {"data_unit", header.data_unit},
                {"tweak", volume::tweak_name(header.tweak)},
                {"sequence", header.sequence},
                {"ranges", ranges}};
    }

    void finish() const { std::ofstream(path("expected.json")) << expected_.dump(1); }

  private:
    std::string path(const std::string& name) const { return directory_ + "/" + name; }

    std::string add_key(const std::string& name, const Secret& key) {
        const std::string file = name + ".key";
        const Fd fd = make_image(path(file), 0);
        put_bytes(fd.get(), 0, {key.bytes().begin(), key.bytes().end()});
        return file;
    }

    std::string directory_;
    json expected_ = json::array();
};

Header largest(const Secret& key) {
    Header header = in_place_header(key);
    header.data_unit = header.logical_block = 512;
    header.tweak = volume::TweakRule::lba512;
    header.header_lba = 20480 - 512;
    header.sequence = 0x7fffffffffffff00;
    header.ranges.clear();
    for (std::uint64_t i = 0; i < volume::max_ranges; ++i)
        header.ranges.push_back({{9 * i, 7}, static_cast<std::uint16_t>(i % 2)});
    return header;
}

void add_spoilt(Samples& samples, const Secret& key) {
    constexpr std::uint64_t place = 1024 * 512;
    const Header header = in_place_header(key);
    const auto add = [&](const std::string& name, std::uint64_t byte, const Bytes& bytes,
                         const json& says) {
        samples.add(name, header, key);
        samples.spoil(name, place + byte, bytes, says);
    };
    add("one-torn", volume::copy_a_byte + 700, {0xff}, samples.said(header));
    Header later = header;
    later.sequence = 2;
    later.endpoint_policy = "never";
    const Bytes newer = volume::encode(later, key).value();
    add("second-newer", volume::copy_b_byte, newer, samples.said(later));
    Forgery forgery = Forgery::of(newer);
    forgery.map[9] ^= 1;
    add("map-edited", volume::copy_b_byte, forgery.sealed(),
        {{"refused", "the HMAC does not match"}});
    forgery.put64(24, 1);
    add("contradiction", volume::copy_b_byte, forgery.sealed(), {{"refused", "contradiction"}});
    forgery.put32(16, 2);
    forgery.put64(24, 3);
    add("too-new", volume::copy_b_byte, forgery.sealed(), {{"refused", "unknown feature"}});
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: samples DIRECTORY\n";
        return 2;
    }
    Samples samples(argv[1]);
    const Secret key = sample_key();
    const Secret half = Secret::copy_of(key.bytes().first(32));
    samples.add("in-place", in_place_header(key), key);
    samples.add("default", leading_header(key), key);
    samples.add("detached", detached_header(key), key);
    samples.add("largest", largest(key), key);
    samples.add("aes-128", leading_header(half), half);
    Header rekey = leading_header(key);
    rekey.incompatible = volume::feature_rekey;
    rekey.rekey_state = R"({"to":1,"watermark":77})";
    samples.add("rekey", rekey, key);
    add_spoilt(samples, key);
    samples.finish();
    return 0;
}
