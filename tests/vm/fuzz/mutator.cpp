// SPDX-License-Identifier: Apache-2.0
#include "mutator.h"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <vector>

std::uint64_t Mutator::number() {
    const std::uint64_t bit = std::uint64_t{1} << below(64);
    switch (below(6)) {
    case 0:
        return below(8);
    case 1:
        return below(70000);
    case 2:
        return bit - 1 + below(3);
    case 3:
        return ~std::uint64_t{0} - below(9);
    case 4:
        return ~std::uint32_t{0} - below(9);
    default:
        return engine_();
    }
}

void Mutator::bytes(void* data, std::size_t size) {
    auto* at = static_cast<std::uint8_t*>(data);
    for (std::uint64_t n = 1 + below(4); n; n--) {
        const std::size_t width = std::size_t{1} << below(4);
        if (width > size)
            continue;
        const std::uint64_t value = number();
        // Fields are aligned, so most hits are of a whole field.
        const std::size_t where =
            chance(80) ? below(size / width) * width : below(size - width + 1);
        std::memcpy(at + where, &value, width);
    }
}

std::string Mutator::text(const std::string& valid) {
    std::istringstream in(valid);
    std::vector<std::string> words;
    for (std::string word; in >> word;)
        words.push_back(word);
    for (std::uint64_t n = 1 + below(2); n && !words.empty(); n--) {
        const auto at = words.begin() + static_cast<std::ptrdiff_t>(below(words.size()));
        switch (below(5)) {
        case 0:
            words.erase(at);
            break;
        case 1:
            words.insert(at, std::string(*at));
            break;
        case 2:
            *at = std::to_string(number());
            break;
        case 3:
            *at = std::string(below(3000), 'x');
            break;
        default:
            if (!at->empty())
                (*at)[below(at->size())] = static_cast<char>(1 + below(255));
        }
    }
    std::string out;
    for (const std::string& word : words)
        out += word + ' ';
    return out;
}

Ranges Mutator::ranges(std::size_t most, std::uint64_t end, std::uint64_t align) {
    Ranges out;
    std::uint64_t at = below(end / align) * align;
    for (std::uint64_t n = 1 + below(most); n && at < end; n--) {
        const std::uint64_t room = (end - at) / align,
                            count = (1 + below(std::min<std::uint64_t>(room, 64))) * align;
        out.push_back({at, std::min(count, end - at)});
        at += count + below(64) * align;
    }
    if (!out.empty() && chance(10))
        bytes(out.data(), out.size() * sizeof out[0]);
    return out;
}
