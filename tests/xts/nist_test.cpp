// SPDX-License-Identifier: Apache-2.0
// NIST's XTS vectors (CAVS 11), as Debian's python3-cryptography-vectors installs them. Those whose
// length is not a multiple of 16 bytes need ciphertext stealing, which no data unit does; they are
// counted and left out.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>

#include "evp_reference.h"

namespace {

struct Vector {
    Bytes key, tweak, plain, cipher;
    unsigned bits = 0;
    bool complete() const { return bits != 0 && !key.empty() && tweak.size() == 16; }
};

struct Count {
    unsigned run = 0, stealing = 0;
};

Bytes from_hex(const std::string& hex) {
    Bytes bytes(hex.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); i++)
        std::from_chars(&hex[2 * i], &hex[2 * i] + 2, bytes[i], 16);
    return bytes;
}

Bytes from_sequence_number(const std::string& decimal) {
    std::uint64_t number = std::stoull(decimal);
    Bytes tweak(16);
    for (int i = 0; i < 8; i++, number >>= 8)
        tweak[i] = static_cast<std::uint8_t>(number);
    return tweak;
}

void set_field(Vector& vector, const std::string& name, const std::string& value) {
    if (name == "DataUnitLen")
        vector.bits = static_cast<unsigned>(std::stoul(value));
    else if (name == "Key")
        vector.key = from_hex(value);
    else if (name == "i")
        vector.tweak = from_hex(value);
    else if (name == "DataUnitSeqNumber")
        vector.tweak = from_sequence_number(value);
    else if (name == "PT")
        vector.plain = from_hex(value);
    else if (name == "CT")
        vector.cipher = from_hex(value);
}

void check(const Vector& vector, dek::XtsEngine engine, bool encrypt) {
    const auto key = dek::XtsKey::make(vector.key, engine);
    REQUIRE(key);
    const std::span<const std::uint8_t, 16> tweak(vector.tweak.data(), 16);
    Bytes work = encrypt ? vector.plain : vector.cipher;
    REQUIRE((encrypt ? key->encrypt_blocks(work, tweak) : key->decrypt_blocks(work, tweak)));
    REQUIRE(work == (encrypt ? vector.cipher : vector.plain));
}

void finish(Vector& vector, dek::XtsEngine engine, bool encrypt, Count& count) {
    if (vector.bits == 0)
        return;
    REQUIRE(vector.complete());
    REQUIRE(vector.plain.size() == (vector.bits + 7) / 8);
    if (vector.bits % 128 != 0) {
        count.stealing++;
    } else {
        check(vector, engine, encrypt);
        count.run++;
    }
    vector = {};
}

Count run_file(const std::string& path, dek::XtsEngine engine) {
    std::ifstream file(path);
    INFO(path);
    REQUIRE(file);
    Count count;
    Vector vector;
    bool encrypt = true;
    for (std::string line; std::getline(file, line);) {
        line.erase(std::remove(line.begin(), line.end(), '\r'), line.end());
        const auto equals = line.find(" = ");
        if (line.starts_with("COUNT") || line.starts_with("["))
            finish(vector, engine, encrypt, count);
        if (line.starts_with("["))
            encrypt = line == "[ENCRYPT]";
        else if (equals != std::string::npos && line[0] != '#')
            set_field(vector, line.substr(0, equals), line.substr(equals + 3));
    }
    finish(vector, engine, encrypt, count);
    return count;
}

} // namespace

TEST_CASE("each engine reproduces NIST's vectors, both key sizes, both directions") {
    const std::string folder = DEK_XTS_VECTORS;
    for (const dek::XtsEngine engine : engines_here())
        for (const char* tweaks : {"/tweak-128hexstr", "/tweak-dataunitseqno"})
            for (const char* file : {"/XTSGenAES128.rsp", "/XTSGenAES256.rsp"}) {
                INFO(dek::xts_engine_name(engine) << tweaks << file);
                const Count count = run_file(folder + tweaks + file, engine);
                REQUIRE(count.run == 600);
                REQUIRE(count.stealing == 400);
            }
}
