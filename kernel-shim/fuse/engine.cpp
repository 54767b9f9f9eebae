// SPDX-License-Identifier: Apache-2.0
#include "engine.h"

#include <cerrno>
#include <cstdlib>
#include <memory>

#include <sys/random.h>

namespace dek::shim {
namespace {

// Written once, before any other thread exists.
bool healthy = false;
XtsEngine engine = XtsEngine::automatic;

enum dek_status key_set(void*, dek_association* a) {
    if (!healthy)
        return DEK_INVALID_HW_STATE;
    auto key = XtsKey::make({a->key, a->key_length}, engine);
    if (!key)
        return key.error().code == Errc::invalid_argument ? DEK_INVALID_KEY : DEK_NO_MEMORY;
    a->engine = new (std::nothrow) XtsKey(std::move(*key));
    return a->engine ? DEK_OK : DEK_NO_MEMORY;
}

void key_drop(void*, dek_association* a) {
    delete static_cast<XtsKey*>(a->engine);
    a->engine = nullptr;
}

enum dek_status ready(void*, const dek_geometry*) {
    return healthy ? DEK_OK : DEK_INVALID_HW_STATE;
}

void random_bytes(void*, void* out, std::size_t n) {
    auto* at = static_cast<std::uint8_t*>(out);
    while (n) {
        const ssize_t got = ::getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            std::abort(); // no randomness: better no shim than a guessable endpoint
        }
        at += got;
        n -= static_cast<std::size_t>(got);
    }
}

const dek_engine_ops ops = {key_set, key_drop, nullptr, ready, random_bytes};

} // namespace

Result<void> start_engine(const std::string& name) {
    if (name == "openssl")
        engine = XtsEngine::openssl;
    else if (name == "vaes512")
        engine = XtsEngine::vaes512;
    else if (xts_engine_available(XtsEngine::vaes512))
        engine = XtsEngine::vaes512;
    else
        engine = XtsEngine::openssl;
    if (!xts_engine_available(engine))
        return fail(Errc::unsupported, "this CPU cannot run the engine " + name);
    healthy = xts_self_test(engine);
    if (!healthy)
        return fail(Errc::internal, std::string("the engine ") + engine_name() +
                                        " fails its known answers: it encrypts nothing");
    return {};
}

const char* engine_name() {
    return xts_engine_name(engine);
}

const dek_engine_ops* engine_ops() {
    return &ops;
}

} // namespace dek::shim
