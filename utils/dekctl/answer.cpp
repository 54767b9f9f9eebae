// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include "printable.h"

namespace dek::ctl {
namespace {

// dump() recurses, so depth is bounded before anything is printed.
constexpr int max_depth = 32;

const Json* find(const Json& object, const char* member) {
    if (!object.is_object())
        return nullptr;
    const auto it = object.find(member);
    return it == object.end() ? nullptr : &*it;
}

} // namespace

Result<Json> parse_answer(std::string_view text) {
    bool deep = false;
    const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
        deep |= depth > max_depth;
        return depth <= max_depth;
    };
    Json answer = Json::parse(text.begin(), text.end(), shallow, false);
    if (answer.is_discarded() || deep || !answer.is_object())
        return fail(Errc::internal, "the controller's answer is not the JSON that was agreed on: "
                                    "are dekctl and kcmd of the same version");
    return answer;
}

std::string json_text(const Json& value, int indent) {
    return value.dump(indent, ' ', true, Json::error_handler_t::replace);
}

std::string text_of(const Json& value) {
    if (value.is_string())
        return value.get_ref<const std::string&>().empty()
                   ? "-"
                   : printable(value.get_ref<const std::string&>());
    if (value.is_boolean())
        return value.get<bool>() ? "yes" : "no";
    if (value.is_number())
        return value.dump();
    return "-";
}

std::string text_at(const Json& object, const char* member) {
    const Json* value = find(object, member);
    return value ? text_of(*value) : "-";
}

bool has(const Json& object, const char* member) {
    const Json* value = find(object, member);
    return value && !value->is_null() &&
           !(value->is_string() && value->get_ref<const std::string&>().empty());
}

std::optional<std::uint64_t> number_at(const Json& object, const char* member) {
    const Json* value = find(object, member);
    if (!value || !value->is_number_integer() ||
        (!value->is_number_unsigned() && value->get<std::int64_t>() < 0))
        return std::nullopt;
    return value->get<std::uint64_t>();
}

bool flag_at(const Json& object, const char* member) {
    const Json* value = find(object, member);
    return value && value->is_boolean() && value->get<bool>();
}

const Json& array_at(const Json& object, const char* member) {
    static const Json none = Json::array();
    const Json* value = find(object, member);
    return value && value->is_array() ? *value : none;
}

const Json& object_at(const Json& object, const char* member) {
    static const Json none = Json::object();
    const Json* value = find(object, member);
    return value && value->is_object() ? *value : none;
}

Json ordered(const Json& object, std::initializer_list<const char*> first) {
    if (!object.is_object())
        return object;
    Json sorted = Json::object();
    for (const char* member : first)
        if (object.contains(member))
            sorted[member] = object[member];
    for (const auto& [member, value] : object.items())
        if (!sorted.contains(member))
            sorted[member] = value;
    return sorted;
}

} // namespace dek::ctl
