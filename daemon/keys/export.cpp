// SPDX-License-Identifier: Apache-2.0
// Lines of "field: value" in a fixed order; all that stands before the nonce is bound to the seal.
#include "keys/export.h"

#include <algorithm>
#include <charconv>

#include "keys/public_key.h"
#include "keys/wrapping.h"

namespace dek::keys {
namespace {

constexpr std::string_view first_line = "dekstack wrapped key 1";
constexpr std::size_t longest_text = 256 * 1024;

std::string hex_of(ByteView bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string hex;
    for (const std::uint8_t byte : bytes) {
        hex += digits[byte >> 4];
        hex += digits[byte & 15];
    }
    return hex;
}

std::optional<Bytes> bytes_from_hex(std::string_view hex) {
    Bytes bytes(hex.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const char* at = hex.data() + 2 * i;
        const auto parsed = std::from_chars(at, at + 2, bytes[i], 16);
        if (parsed.ptr != at + 2)
            return std::nullopt;
    }
    if (hex.size() % 2 != 0)
        return std::nullopt;
    return bytes;
}

std::string line(std::string_view field, std::string_view value) {
    return std::string(field) + ": " + std::string(value) + '\n';
}

std::string description_of(const KeyInfo& info) {
    std::string text =
        std::string(first_line) + '\n' + line("id", info.id) + line("name", info.name) +
        line("algorithm", info.algorithm) + line("bits", std::to_string(info.bits)) +
        line("state", state_name(info.state)) + line("created", std::to_string(info.created));
    for (const auto& [name, value] : info.attributes)
        text += line("attribute", name + '=' + value);
    return text;
}

Result<std::string> finish(std::string text, const Secret& key, const Secret& material) {
    auto sealed = seal(key, material.bytes(), bytes_of(text));
    if (!sealed)
        return tl::unexpected(sealed.error());
    return text + line("nonce", hex_of(sealed->nonce)) + line("wrapped", hex_of(sealed->text));
}

// Takes the text apart line by line. After a line that is not the expected one everything else is
// empty, and good() is false.
class Reader {
  public:
    explicit Reader(std::string_view text) : rest_(text) {}

    void exactly(std::string_view expected) { good_ = next() == expected && good_; }

    bool at(std::string_view field) const {
        return rest_.starts_with(field) && rest_.substr(field.size()).starts_with(": ");
    }
    std::string_view value(std::string_view field) {
        if (!good_ || !at(field)) {
            good_ = false;
            return {};
        }
        return next().substr(field.size() + 2);
    }
    template <class T>
    T number(std::string_view field) {
        const std::string_view text = value(field);
        T result{};
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), result);
        good_ = good_ && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
        return result;
    }
    Bytes bytes(std::string_view field) {
        auto decoded = bytes_from_hex(value(field));
        good_ = good_ && decoded;
        return decoded ? std::move(*decoded) : Bytes();
    }
    std::string_view rest() const { return rest_; }
    bool good() const { return good_; }
    void reject() { good_ = false; }

  private:
    std::string_view next() {
        const auto end = rest_.find('\n');
        good_ = good_ && end != std::string_view::npos;
        const std::string_view found = rest_.substr(0, end);
        rest_.remove_prefix(std::min(rest_.size(), found.size() + 1));
        return found;
    }
    std::string_view rest_;
    bool good_ = true;
};

KeyInfo read_description(Reader& reader) {
    KeyInfo info;
    reader.exactly(first_line);
    info.id = reader.value("id");
    info.name = reader.value("name");
    info.algorithm = reader.value("algorithm");
    info.bits = reader.number<std::uint32_t>("bits");
    const auto state = state_of(reader.value("state"));
    info.created = reader.number<std::int64_t>("created");
    while (reader.good() && reader.at("attribute")) {
        const std::string attribute(reader.value("attribute"));
        const auto equals = attribute.find('=');
        if (equals == std::string::npos)
            reader.reject();
        else
            info.attributes.emplace(attribute.substr(0, equals), attribute.substr(equals + 1));
    }
    if (state)
        info.state = *state;
    else
        reader.reject();
    return info;
}

tl::unexpected<Error> no_wrapped_key() {
    return fail(Errc::invalid_argument, "the text is not a wrapped key as dekstack exports it");
}

bool presentable(const KeyInfo& info) {
    return check_key_id(info.id) && check_key_name(info.name) &&
           check_key_attributes(info.attributes);
}

} // namespace

Result<std::string> wrap_for_passphrase(const Provider::Key& key, const Secret& passphrase,
                                        const Argon2Cost& cost) {
    if (passphrase.empty())
        return fail(Errc::invalid_argument, "the passphrase is empty");
    const Bytes salt = random_bytes(32);
    auto wrap = argon2id(passphrase, salt, cost);
    if (!wrap)
        return tl::unexpected(wrap.error());
    return finish(description_of(key.info) + line("method", "argon2id") +
                      line("memory-kib", std::to_string(cost.memory_kib)) +
                      line("passes", std::to_string(cost.passes)) +
                      line("lanes", std::to_string(cost.lanes)) + line("salt", hex_of(salt)),
                  *wrap, key.material);
}

Result<std::string> wrap_for_public_key(const Provider::Key& key, const std::string& pem) {
    auto conveyed = convey_key(pem);
    if (!conveyed)
        return tl::unexpected(conveyed.error());
    return finish(description_of(key.info) + line("method", conveyed->method) +
                      line("message", hex_of(conveyed->message)),
                  conveyed->key, key.material);
}

Result<Provider::Key> unwrap_with_passphrase(const std::string& text, const Secret& passphrase) {
    if (text.size() > longest_text)
        return no_wrapped_key();
    Reader reader(text);
    Provider::Key key{read_description(reader), {}};
    const std::string_view method = reader.value("method");
    if (reader.good() && method != "argon2id")
        return fail(Errc::unsupported, "the key is wrapped under a public key: only the owner of "
                                       "the private key can unwrap it");
    const auto memory = reader.number<std::uint32_t>("memory-kib");
    const auto passes = reader.number<std::uint32_t>("passes");
    const auto lanes = reader.number<std::uint32_t>("lanes");
    const Bytes salt = reader.bytes("salt");
    const std::string_view bound =
        std::string_view(text).substr(0, text.size() - reader.rest().size());
    const Sealed sealed{reader.bytes("nonce"), reader.bytes("wrapped")};
    if (!reader.good() || !reader.rest().empty() || !presentable(key.info) || salt.size() != 32)
        return no_wrapped_key();
    auto wrap = argon2id(passphrase, salt, {memory, passes, lanes});
    if (!wrap)
        return tl::unexpected(wrap.error());
    auto material = unseal(*wrap, sealed, bytes_of(bound));
    if (!material && material.error().code == Errc::wrong_key)
        return fail(Errc::wrong_key, "the passphrase does not fit, or the text was edited");
    if (!material)
        return tl::unexpected(material.error());
    key.material = std::move(*material);
    if (auto fit = check_key_material(key.material); !fit)
        return tl::unexpected(fit.error());
    return key;
}

} // namespace dek::keys
