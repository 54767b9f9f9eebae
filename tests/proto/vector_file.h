// SPDX-License-Identifier: Apache-2.0
// Reads a file of tests/proto/vectors: hex bytes, `*N` to repeat them, comments after `#`.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "sample.h"

namespace sample {

inline std::vector<std::uint8_t> vector_line(std::string line) {
    line = line.substr(0, line.find('#'));
    std::size_t star = line.find('*');
    unsigned long times = star == line.npos ? 1 : std::stoul(line.substr(star + 1));
    std::istringstream words(line.substr(0, star));
    std::vector<std::uint8_t> once, out;
    for (std::string word; words >> word;)
        once.push_back(static_cast<std::uint8_t>(std::stoul(word, nullptr, 16)));
    while (times--)
        out.insert(out.end(), once.begin(), once.end());
    return out;
}

inline Block vector_file(const std::string& name) {
    std::ifstream file(std::string(DEK_VECTORS) + "/" + name + ".hex");
    std::vector<std::uint8_t> bytes;
    for (std::string line; std::getline(file, line);) {
        std::vector<std::uint8_t> more = vector_line(line);
        bytes.insert(bytes.end(), more.begin(), more.end());
    }
    Block block;
    if (bytes.size() != block.size())
        throw std::runtime_error(name + " does not hold one block");
    std::copy(bytes.begin(), bytes.end(), block.begin());
    return block;
}

} // namespace sample
