// SPDX-License-Identifier: Apache-2.0
#include "kcm/methods.h"

namespace dek::kcm {

const std::vector<Method>& all_methods() {
    static const std::vector<Method> all = [] {
        std::vector<Method> list;
        for (auto part : {volume_methods(), header_methods(), key_methods(), keystore_methods(),
                          endpoint_methods()})
            list.insert(list.end(), part.begin(), part.end());
        return list;
    }();
    return all;
}

const Method* find_method(std::string_view name) {
    for (const auto& method : all_methods())
        if (name == method.name)
            return &method;
    return nullptr;
}

HeaderQuery header_query(const Request& request) {
    HeaderQuery query;
    if (request.has("header_at"))
        query.lba = request.number("header_at");
    query.file = request.text("header");
    return query;
}

} // namespace dek::kcm
