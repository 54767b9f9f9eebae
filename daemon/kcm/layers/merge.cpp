// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/merge.h"

#include <array>

namespace dek::kcm::layers {
namespace {

constexpr std::array<dek_status, DEK_STATUS_COUNT> worst_first = {
    DEK_INVALID_HW_STATE, DEK_INVALID_KEY,          DEK_INVALID_RANGE, DEK_ASSOCIATION_EXISTS,
    DEK_BAD_CHECKSUM,     DEK_BAD_SIGNATURE,        DEK_BAD_VERSION,   DEK_BAD_OPCODE,
    DEK_UNKNOWN_ENDPOINT, DEK_UNKNOWN_HANDLE,       DEK_NOT_CAPABLE,   DEK_MALFORMED,
    DEK_NO_MEMORY,        DEK_ASSOCIATION_OVERFLOW, DEK_BUSY,          DEK_OK};

std::size_t place_of(dek_status status) {
    for (std::size_t i = 0; i < worst_first.size(); i++)
        if (worst_first[i] == status)
            return i;
    return 0;
}

} // namespace

dek_status worse(dek_status a, dek_status b) {
    const auto i = place_of(a), j = place_of(b);
    return worst_first[i < j ? i : j];
}

bool is_of_the_leg(dek_status status) {
    return status == DEK_INVALID_HW_STATE || status == DEK_NOT_CAPABLE ||
           status == DEK_INVALID_RANGE || status == DEK_NO_MEMORY ||
           status == DEK_ASSOCIATION_OVERFLOW;
}

} // namespace dek::kcm::layers
