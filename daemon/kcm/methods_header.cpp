// SPDX-License-Identifier: Apache-2.0
// HeaderShow, HeaderBackup, HeaderRestore.
#include <cerrno>

#include <sys/stat.h>
#include <unistd.h>

#include "kcm/methods.h"

namespace dek::kcm {
namespace {

Result<SitedHeader> sited_header(const Request& r, const Device& device) {
    return find_header(device, header_query(r), Access::read);
}

json verdict(KeyService& keys, const volume::Copy& copy) {
    auto key = keys.material(copy.header.keys.front());
    if (!key)
        return key.error().code == Errc::wrong_key ? json(false) : json(nullptr);
    return volume::verify(copy, *key).has_value();
}

Result<json> show(MethodContext& c, const Request& r) {
    auto device = open_device(r.text("device"), Access::read);
    if (!device)
        return tl::unexpected(device.error());
    auto sited = sited_header(r, *device);
    if (!sited)
        return tl::unexpected(sited.error());
    json j = volume::to_json(sited->found.copy.header);
    j["copies"] = {{"a", volume::copy_state_name(sited->found.a)},
                   {"b", volume::copy_state_name(sited->found.b)}};
    j["authenticated"] = verdict(*c.keys, sited->found.copy);
    return j;
}

Result<void> check_empty(int fd) {
    struct stat st;
    if (::fstat(fd, &st) != 0)
        return fail_errno(errno, "descriptor \"file\"");
    if (S_ISREG(st.st_mode) && st.st_size > 0)
        return fail(Errc::exists, "the file for the backup is not empty");
    return {};
}

Result<void> write_all(int fd, const std::vector<std::uint8_t>& bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(errno, "the backup cannot be written");
        done += static_cast<std::size_t>(n);
    }
    if (::fsync(fd) != 0 && errno != EINVAL && errno != EROFS) // a pipe has nothing to flush
        return fail_errno(errno, "the backup cannot be made durable");
    return {};
}

Result<json> backup(MethodContext&, const Request& r) {
    auto device = open_device(r.text("device"), Access::read);
    if (!device)
        return tl::unexpected(device.error());
    auto sited = sited_header(r, *device);
    if (!sited)
        return tl::unexpected(sited.error());
    if (auto empty = check_empty(r.fd("file")); !empty)
        return tl::unexpected(empty.error());
    const auto bytes = volume::encode_backup(sited->found.copy);
    if (auto written = write_all(r.fd("file"), bytes); !written)
        return tl::unexpected(written.error());
    const auto& h = sited->found.copy.header;
    return json{
        {"uuid", volume::uuid_text(h.uuid)}, {"sequence", h.sequence}, {"bytes", bytes.size()}};
}

Result<json> restore(MethodContext& c, const Request& r) {
    auto bytes =
        r.secret("file", volume::backup_max_bytes); // bounded in size and time; it holds no key
    if (!bytes)
        return tl::unexpected(bytes.error());
    auto copy = volume::decode_backup(std::as_const(*bytes).bytes());
    if (!copy)
        return tl::unexpected(copy.error());
    auto restored =
        c.controller->header_restore(r.text("device"), header_query(r), *copy, r.flag("force"));
    if (!restored)
        return tl::unexpected(restored.error());
    return json{{"uuid", volume::uuid_text(restored->header.uuid)},
                {"sequence", restored->header.sequence}};
}

} // namespace

std::vector<Method> header_methods() {
    using enum ArgType;
    return {
        {"HeaderShow",
         Queue::operations,
         {{"device", text, true}, {"header_at", number}, {"header", text}},
         show},
        {"HeaderBackup",
         Queue::operations,
         {{"device", text, true}, {"header_at", number}, {"header", text}, {"file", fd, true}},
         backup},
        {"HeaderRestore",
         Queue::operations,
         {{"device", text, true},
          {"header_at", number},
          {"header", text},
          {"file", fd, true},
          {"force", flag}},
         restore},
    };
}

} // namespace dek::kcm
