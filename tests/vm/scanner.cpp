// SPDX-License-Identifier: Apache-2.0
#include "scanner.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <openssl/evp.h>

#include "sector.h"

namespace {

constexpr std::size_t most_said = 20;

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

std::vector<std::uint8_t> decrypt(const ScanKey& key, std::uint64_t number,
                                  const std::uint8_t* data) {
    std::array<std::uint8_t, 16> tweak{};
    for (int i = 0; i < 8; i++)
        tweak[i] = static_cast<std::uint8_t>(number >> 8 * i);
    std::vector<std::uint8_t> out(key.unit);
    const Cipher c(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    const auto* kind = key.bytes.size() == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
    int n = 0;
    if (!c || EVP_DecryptInit_ex(c.get(), kind, nullptr, key.bytes.data(), tweak.data()) != 1 ||
        EVP_DecryptUpdate(c.get(), out.data(), &n, data, static_cast<int>(key.unit)) != 1 ||
        n != static_cast<int>(key.unit))
        throw std::runtime_error("OpenSSL fails");
    return out;
}

// No word of 8 bytes twice in a sector: by chance once in 2^53.
bool like_ciphertext(const std::uint8_t* sector) {
    std::array<std::uint64_t, sector_size / 8> words;
    std::memcpy(words.data(), sector, sector_size);
    std::sort(words.begin(), words.end());
    return std::adjacent_find(words.begin(), words.end()) == words.end();
}

// For each place of `text` in `data`: found(its offset).
template <class F>
void each_place(const std::vector<std::uint8_t>& data, const std::string& text, F found) {
    const std::uint8_t* at = data.data();
    const std::uint8_t* end = at + data.size();
    while (const void* hit =
               ::memmem(at, static_cast<std::size_t>(end - at), text.data(), text.size())) {
        at = static_cast<const std::uint8_t*>(hit);
        found(static_cast<std::size_t>(at - data.data()));
        at++;
    }
}

std::uint64_t number_of(const std::string& text) {
    std::size_t end = 0;
    if (text.empty() || text[0] < '0' || text[0] > '9')
        throw std::runtime_error("not a number: '" + text + "'");
    const std::uint64_t n = std::stoull(text, &end);
    if (end != text.size())
        throw std::runtime_error("not a number: " + text);
    return n;
}

// What comes after the first `mark`, which is cut off.
std::optional<std::string> cut(std::string& text, char mark) {
    const auto at = text.find(mark);
    if (at == std::string::npos)
        return std::nullopt;
    const std::string rest = text.substr(at + 1);
    text.resize(at);
    return rest;
}

} // namespace

std::uint64_t CryptMap::volume_lba(std::uint64_t lba) const {
    const std::uint64_t p = lba - device_origin;
    return chunk == 0 ? origin + p : origin + (p / chunk * stripes + leg) * chunk + p % chunk;
}

LbaRange parse_lba_range(const std::string& text) {
    std::string first = text;
    const auto last = cut(first, '-');
    const LbaRange r{number_of(first), number_of(last.value_or(""))};
    if (r.last < r.first)
        throw std::runtime_error("a range runs backwards: " + text);
    return r;
}

CryptMap parse_crypt_map(const std::string& text, const ScanKey& key) {
    std::string range = text;
    std::string origin = cut(range, '@').value_or("");
    const auto device_origin = cut(range, ':');
    auto chunk = cut(origin, '/');
    CryptMap map;
    map.lbas = parse_lba_range(range);
    map.device_origin = device_origin ? number_of(*device_origin) : map.lbas.first;
    map.origin = number_of(origin);
    map.key = key;
    if (chunk) {
        auto stripes = cut(*chunk, '/');
        const auto leg = stripes ? cut(*stripes, '/') : std::nullopt;
        map.chunk = number_of(*chunk);
        map.stripes = number_of(stripes.value_or(""));
        map.leg = number_of(leg.value_or(""));
        if (map.chunk == 0 || map.leg >= map.stripes || map.chunk % (key.unit / sector_size) != 0)
            throw std::runtime_error("no such stripes: " + text);
    }
    if (map.device_origin > map.lbas.first)
        throw std::runtime_error("a range begins before its origin: " + text);
    return map;
}

PlainMap parse_plain_map(const std::string& text) {
    std::string range = text;
    const auto origin = cut(range, '@');
    PlainMap map{parse_lba_range(range), std::nullopt};
    if (origin)
        map.origin = number_of(*origin);
    return map;
}

Scanner::Scanner(ScanRules rules) : rules_(std::move(rules)) {
    for (const CryptMap& m : rules_.maps) {
        if (m.key.bytes.size() != 32 && m.key.bytes.size() != 64)
            throw std::runtime_error("a key has 32 or 64 bytes");
        if (m.key.unit < sector_size || m.key.unit > 4096 || (m.key.unit & (m.key.unit - 1)) != 0)
            throw std::runtime_error("a data unit has 512 to 4096 bytes");
        for (const CryptMap& other : rules_.maps)
            if (&m != &other && m.lbas.first <= other.lbas.last && other.lbas.first <= m.lbas.last)
                throw std::runtime_error("two maps overlap");
        const auto half = static_cast<std::ptrdiff_t>(m.key.bytes.size() / 2);
        key_halves_.emplace_back(m.key.bytes.begin(), m.key.bytes.begin() + half);
        key_halves_.emplace_back(m.key.bytes.begin() + half, m.key.bytes.end());
    }
}

const CryptMap* Scanner::crypt_at(std::uint64_t lba) const {
    for (const CryptMap& m : rules_.maps)
        if (m.lbas.holds(lba))
            return &m;
    return nullptr;
}

const PlainMap* Scanner::plain_at(std::uint64_t lba) const {
    for (const PlainMap& p : rules_.plain)
        if (p.lbas.holds(lba))
            return &p;
    return nullptr;
}

void Scanner::fail(const WriteEntry& e, std::uint64_t lba, const std::string& why) {
    if (count_.failures++ < most_said)
        said_.push_back("entry " + std::to_string(e.number) + ", LBA " + std::to_string(lba) +
                        ": " + why);
}

void Scanner::judge(const WriteEntry& e, const std::vector<std::uint8_t>& data) {
    count_.entries++;
    if (e.flags & WriteEntry::MARK)
        return;
    if (e.flags & WriteEntry::DISCARD) {
        judge_discard(e);
        return;
    }
    if (data.empty())
        return;
    count_.writes++;
    count_.sectors += data.size() / sector_size;
    find_texts(e, data);
    const std::uint64_t first = e.at / sector_size, end = first + data.size() / sector_size;
    for (std::uint64_t lba = first; lba < end;) {
        const std::uint8_t* at = data.data() + (lba - first) * sector_size;
        const CryptMap* map = crypt_at(lba);
        if (!map) {
            judge_plain(e, lba++, at);
            continue;
        }
        const std::uint64_t unit = map->key.unit / sector_size;
        const std::uint64_t into = map->volume_lba(lba) % unit;
        const std::uint64_t next = lba + unit - into;
        if (into == 0 && next <= end && next <= map->lbas.last + 1)
            judge_unit(e, *map, lba, at);
        else
            fail(e, lba, "a part of a data unit is written");
        lba = std::min({next, end, map->lbas.last + 1});
    }
}

void Scanner::judge_discard(const WriteEntry& e) {
    count_.discards++;
    if (rules_.discards || e.size == 0)
        return;
    const LbaRange of{e.at / sector_size, (e.at + e.size) / sector_size - 1};
    for (const CryptMap& m : rules_.maps)
        if (m.lbas.first <= of.last && of.first <= m.lbas.last)
            fail(e, std::max(of.first, m.lbas.first), "a discard in an encrypted range");
}

// At any place, across sectors, too. The mark at a sector's start, where a sector of the volume may
// be in the clear, is what judge_plain() looks at.
void Scanner::find_texts(const WriteEntry& e, const std::vector<std::uint8_t>& data) {
    const std::uint64_t first = e.at / sector_size;
    each_place(data, sector_mark, [&](std::size_t at) {
        if (const std::uint64_t lba = first + at / sector_size;
            at % sector_size != 0 || !plain_at(lba))
            fail(e, lba, "the volume's contents in the clear");
    });
    for (const std::string& text : rules_.texts)
        each_place(data, text, [&](std::size_t at) {
            if (const std::uint64_t lba = first + at / sector_size; !plain_at(lba))
                fail(e, lba, "a text of the volume's in the clear");
        });
    for (const std::string& half : key_halves_)
        each_place(data, half, [&](std::size_t at) { fail(e, first + at / sector_size, "a key"); });
}

void Scanner::judge_unit(const WriteEntry& e, const CryptMap& map, std::uint64_t lba,
                         const std::uint8_t* data) {
    const std::uint64_t unit = map.key.unit / sector_size, at = map.volume_lba(lba);
    const auto contents = decrypt(map.key, map.key.by_unit ? at / unit : at, data);
    count_.encrypted += unit;
    for (std::uint64_t i = 0; i < unit; i++) {
        if (like_ciphertext(data + i * sector_size))
            judge_contents(e, lba + i, at + i, contents.data() + i * sector_size);
        else
            fail(e, lba + i, "what is written is not ciphertext");
    }
}

void Scanner::judge_contents(const WriteEntry& e, std::uint64_t lba, std::uint64_t volume_lba,
                             const std::uint8_t* sector) {
    const auto name = sector_read(sector);
    if (name && (name->lba == volume_lba || rules_.any))
        count_.described++;
    else if (name)
        fail(e, lba,
             "decrypts to LBA " + std::to_string(name->lba) + ", and is LBA " +
                 std::to_string(volume_lba));
    else if (sector_has_mark(sector))
        fail(e, lba, "decrypts to a damaged sector");
    else if (admitted(volume_lba, sector))
        count_.admitted++;
    else
        fail(e, lba, "does not decrypt to what the volume holds");
}

bool Scanner::admitted(std::uint64_t volume_lba, const std::uint8_t* sector) const {
    if (rules_.any)
        return true;
    if (std::any_of(rules_.free.begin(), rules_.free.end(),
                    [&](const LbaRange& r) { return r.holds(volume_lba); }))
        return true;
    return rules_.zeros &&
           std::all_of(sector, sector + sector_size, [](std::uint8_t b) { return b == 0; });
}

void Scanner::judge_plain(const WriteEntry& e, std::uint64_t lba, const std::uint8_t* sector) {
    const PlainMap* plain = plain_at(lba);
    if (!plain || !sector_has_mark(sector))
        return;
    const auto name = sector_read(sector);
    if (!name)
        fail(e, lba, "a damaged sector in a plain range");
    else if (plain->origin && name->lba != *plain->origin + (lba - plain->lbas.first))
        fail(e, lba, "LBA " + std::to_string(name->lba) + " in the wrong place");
    else
        count_.plain++;
}

bool Scanner::good() const {
    return count_.failures == 0 && count_.writes > 0 && count_.described >= rules_.least;
}

std::string Scanner::summary() const {
    std::string s;
    const auto say = [&](std::uint64_t n, const char* what) {
        s += (s.empty() ? "" : ", ") + std::to_string(n) + what;
    };
    say(count_.entries, " entries");
    say(count_.writes, " writes");
    say(count_.discards, " discards");
    say(count_.sectors, " sectors");
    say(count_.encrypted, " of them encrypted");
    say(count_.described, " described");
    say(count_.admitted, " admitted");
    say(count_.plain, " plain");
    say(count_.failures, " failures");
    return s;
}
