// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The command line's grammar of ranges: FIRST-LAST[,FIRST-LAST...], FIRST- and all.
#include <dek/lunmap.hpp>

#include <algorithm>
#include <charconv>

namespace dek {

namespace {

using Parsed = tl::expected<dek_range, std::string>;
using Number = tl::expected<std::uint64_t, std::string>;

// What somebody typed, shortened, and without what would upset a terminal.
std::string quoted(std::string_view text) {
    constexpr std::size_t most = 60;
    std::string out = "\"";
    for (char c : text.substr(0, most))
        out += c >= ' ' && c <= '~' ? c : '?';
    return out + (text.size() > most ? "...\"" : "\"");
}

std::string span_text(const dek_range& r) {
    return std::to_string(r.first) + "-" + std::to_string(r.first + r.count - 1);
}

Number parse_lba(std::string_view digits, std::string_view item) {
    std::uint64_t value = 0;
    if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos)
        return tl::unexpected(quoted(item) + " is not a range: write FIRST-LAST, FIRST- or all");
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    // The last number of all is no LBA: a range that ended there would reach 2^64.
    if (error != std::errc() || value == UINT64_MAX)
        return tl::unexpected("the LBA " + quoted(digits) + " is too large for any device");
    return value;
}

Number parse_last(std::string_view digits, std::string_view item, std::uint64_t size) {
    if (!digits.empty())
        return parse_lba(digits, item);
    if (size == 0)
        return tl::unexpected(
            "the range " + quoted(item) +
            " needs its last LBA, because the size of the device is not known here");
    return size - 1;
}

Parsed parse_range(std::string_view item, std::uint64_t size) {
    std::size_t dash = item.find('-');
    Number first = parse_lba(item.substr(0, dash), item);
    if (!first)
        return tl::unexpected(first.error());
    if (dash == item.npos)
        return tl::unexpected("the range " + quoted(item) +
                              " has no end: write FIRST-LAST or FIRST-");
    Number last = parse_last(item.substr(dash + 1), item, size);
    if (!last)
        return tl::unexpected(last.error());
    if (size && std::max(*first, *last) >= size)
        return tl::unexpected("the range " + quoted(item) + " goes beyond the last LBA, which is " +
                              std::to_string(size - 1));
    if (*last < *first)
        return tl::unexpected("the range " + quoted(item) + " ends before it begins");
    return dek_range{*first, *last - *first + 1};
}

tl::expected<std::vector<dek_range>, std::string> parse_list(std::string_view text,
                                                             std::uint64_t size) {
    std::vector<dek_range> ranges;
    for (std::size_t at = 0; at <= text.size();) {
        std::size_t comma = std::min(text.find(',', at), text.size());
        std::string_view item = text.substr(at, comma - at);
        if (item.empty())
            return tl::unexpected("the list of ranges " + quoted(text) +
                                  " has an empty place in it");
        if (item == "all")
            return tl::unexpected(
                std::string("\"all\" stands alone: it cannot be listed with ranges"));
        Parsed range = parse_range(item, size);
        if (!range)
            return tl::unexpected(range.error());
        ranges.push_back(*range);
        at = comma + 1;
    }
    return ranges;
}

} // namespace

tl::expected<LunMap, std::string> LunMap::parse(std::string_view text, std::uint64_t size) {
    if (text.empty())
        return tl::unexpected(std::string("no ranges were given"));
    if (text == "all" && size == 0)
        return tl::unexpected(
            std::string("\"all\" needs a device whose size is known, and here it is not"));
    if (text == "all")
        return LunMap({dek_range{0, size}});
    auto ranges = parse_list(text, size);
    if (!ranges)
        return tl::unexpected(ranges.error());
    std::sort(ranges->begin(), ranges->end(),
              [](const dek_range& a, const dek_range& b) { return a.first < b.first; });
    for (std::size_t i = 1; i < ranges->size(); i++) {
        const dek_range &before = (*ranges)[i - 1], &after = (*ranges)[i];
        if (after.first < before.first + before.count)
            return tl::unexpected("the ranges " + span_text(before) + " and " + span_text(after) +
                                  " overlap");
    }
    return LunMap(std::move(*ranges)).merged();
}

std::string LunMap::to_string() const {
    std::string out;
    for (const dek_range& r : ranges_)
        out += (out.empty() ? "" : ",") + span_text(r);
    return out;
}

} // namespace dek
