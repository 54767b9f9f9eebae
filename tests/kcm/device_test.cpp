// SPDX-License-Identifier: Apache-2.0
// Opening devices, who uses them, what lies on them, and LVM's filter.
#include <fstream>

#include <catch2/catch.hpp>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "bench.h"
#include "kcm/device_use.h"
#include "kcm/lvm_filter.h"
#include "kcm/signature.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Folder;

namespace {

void write_text(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
}

std::string image(const Folder& folder, std::uint64_t bytes) {
    const std::string path = folder / "disk";
    std::ofstream(path).close();
    std::filesystem::resize_file(path, bytes);
    return path;
}

void poke(const std::string& path, std::uint64_t byte, const std::string& text) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(byte));
    file << text;
}

// Enough of an ext2 superblock for blkid: magic and feature words.
void make_ext2(const std::string& path, std::uint64_t byte) {
    std::string block(1024, '\0');
    block[0x38] = '\x53';
    block[0x39] = '\xef';
    block[0x18] = 2;    // 4096-byte blocks
    block[0x5c] = 0x10; // compatible: dir_index; no journal, nothing of ext3 or ext4
    block[0x4c] = 1;    // revision
    poke(path, byte + 1024, block);
}

} // namespace

TEST_CASE("a device that is none is refused with a reason") {
    const Folder folder;
    CHECK(open_device("relative", Access::read).error().code == Errc::invalid_argument);
    CHECK(open_device(folder / "missing", Access::read).error().code == Errc::not_found);
    CHECK(open_device(folder.path(), Access::read).error().code == Errc::invalid_argument);
    CHECK(open_device("/dev/null", Access::read).error().code == Errc::invalid_argument);
    write_text(folder / "empty", "");
    CHECK(open_device(folder / "empty", Access::read).error().code == Errc::invalid_argument);
    REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
    CHECK(open_device(folder / "fifo", Access::read).error().code == Errc::invalid_argument);
}

TEST_CASE("a file's size, identity and links") {
    const Folder folder;
    const auto path = image(folder, 1000000);
    std::filesystem::create_symlink(path, folder / "link");
    auto direct = open_device(path, Access::write);
    auto linked = open_device(folder / "link", Access::read);
    REQUIRE(direct);
    REQUIRE(linked);
    CHECK(direct->lbas == 1953);
    CHECK(direct->logical_block >= 512);
    CHECK(linked->path == path);
    CHECK(linked->same_as(*direct));
    CHECK(linked->identity() == direct->identity());
}

TEST_CASE("zeros and holes are told from data") {
    const Folder folder;
    const auto path = image(folder, 8 << 20);
    auto device = open_device(path, Access::read);
    REQUIRE(device);
    CHECK(*is_zero(*device, 0, 8 << 20));
    poke(path, (5 << 20) + 17, "x");
    CHECK(*is_zero(*device, 0, 5 << 20));
    CHECK_FALSE(*is_zero(*device, 0, 8 << 20));
    CHECK_FALSE(*is_zero(*device, (5 << 20) + 17, 1));
    CHECK(*is_zero(*device, (5 << 20) + 18, 1));
}

TEST_CASE("mounts and swap are found by device and by name") {
    const Folder folder;
    auto device = open_device(image(folder, 1 << 20), Access::read);
    REQUIRE(device);
    KernelView kernel{folder / "mountinfo", folder / "swaps", folder / "sys"};
    write_text(kernel.mountinfo, "22 1 0:21 / /proc rw - proc proc rw\n");
    write_text(kernel.swaps, "Filename Type Size Used Priority\n");
    CHECK(check_unused(*device, kernel));

    write_text(kernel.mountinfo,
               "30 1 7:3 / /mnt/a\\040b rw shared:1 - ext4 " + device->path + " rw\n");
    auto mounted = check_unused(*device, kernel);
    REQUIRE_FALSE(mounted);
    CHECK(mounted.error().code == Errc::busy);
    CHECK(mounted.error().reason.find("/mnt/a b") != std::string::npos);

    write_text(kernel.mountinfo, "");
    write_text(kernel.swaps,
               "Filename Type Size Used Priority\n" + device->path + " file 1 0 -2\n");
    CHECK(check_unused(*device, kernel).error().code == Errc::busy);
}

TEST_CASE("a block device in use by its number, a partition's or a holder") {
    const Folder folder;
    Device device;
    device.path = "/dev/invented";
    device.block = true;
    device.number = makedev(8, 16);
    KernelView kernel{folder / "mountinfo", folder / "swaps", folder / "sys"};
    const std::string sys = kernel.sys + "/dev/block/8:16";
    write_text(sys + "/sdb1/partition", "1\n");
    write_text(sys + "/sdb1/dev", "8:17\n");
    write_text(kernel.mountinfo, "30 1 8:18 / /elsewhere rw - ext4 none rw\n");
    CHECK(check_unused(device, kernel));
    write_text(kernel.mountinfo, "30 1 8:17 / /part rw - ext4 none rw\n");
    CHECK(check_unused(device, kernel).error().reason.find("/part") != std::string::npos);
    write_text(kernel.mountinfo, "30 1 8:16 / /whole rw - ext4 none rw\n");
    CHECK(check_unused(device, kernel).error().reason.find("/whole") != std::string::npos);
    write_text(kernel.mountinfo, "");
    write_text(sys + "/holders/dm-3/x", "");
    CHECK(check_unused(device, kernel).error().reason.find("dm-3") != std::string::npos);
    std::filesystem::remove_all(sys + "/holders");
    write_text(kernel.sys + "/dev/block/8:17/holders/md0/x", "");
    CHECK(check_unused(device, kernel).error().reason.find("md0") != std::string::npos);
}

TEST_CASE("an image under a loop device is in use") {
    const Folder folder;
    auto device = open_device(image(folder, 1 << 20), Access::read);
    REQUIRE(device);
    KernelView kernel{folder / "none", folder / "none", folder / "sys"};
    write_text(kernel.sys + "/block/loop7/loop/backing_file", "/another\n");
    CHECK(check_unused(*device, kernel));
    write_text(kernel.sys + "/block/loop7/loop/backing_file", device->path + "\n");
    CHECK(check_unused(*device, kernel).error().reason.find("/dev/loop7") != std::string::npos);
}

TEST_CASE("whoever has a device open without a claim is told by its process") {
    const Folder folder;
    auto device = open_device(image(folder, 1 << 20), Access::read);
    REQUIRE(device);
    KernelView kernel{folder / "none", folder / "none", folder / "sys", folder / "proc"};
    write_text(kernel.proc + "/123/comm", "reader\n");
    std::filesystem::create_directories(kernel.proc + "/123/fd");
    std::filesystem::create_symlink("/another", kernel.proc + "/123/fd/3");
    CHECK(claim_closed(*device, kernel));
    std::filesystem::create_symlink(device->path, kernel.proc + "/123/fd/4");
    auto open = claim_closed(*device, kernel);
    REQUIRE_FALSE(open);
    CHECK(open.error().code == Errc::busy);
    CHECK(open.error().reason.find("process 123, reader") != std::string::npos);
    CHECK(check_unused(*device, kernel));
}

TEST_CASE("signatures are found in a stretch of a device, with their place") {
    const Folder folder;
    const auto path = image(folder, 16 << 20);
    auto device = open_device(path, Access::read);
    REQUIRE(device);
    CHECK(find_signatures(device->fd.get(), 0, 16 << 20, path)->empty());
    make_ext2(path, 4 << 20);
    poke(path, (8 << 20) + 4096 - 10, "SWAPSPACE2");
    CHECK(find_signatures(device->fd.get(), 0, 4 << 20, path)->empty());
    auto ext2 = find_signatures(device->fd.get(), 4 << 20, 4 << 20, path);
    REQUIRE(ext2);
    REQUIRE(ext2->size() == 1);
    CHECK(ext2->front().type == "ext2");
    CHECK(ext2->front().byte == (4u << 20) + 1080);
    CHECK(ext2->front().text() == "an ext2 signature");
    auto luks = folder / "luks";
    std::ofstream(luks) << std::string("LUKS\xba\xbe\0\1", 8) << std::string(1 << 20, '\0');
    auto fd = open_device(luks, Access::read);
    auto found = find_signatures(fd->fd.get(), 0, 1 << 20, luks);
    REQUIRE(found);
    REQUIRE_FALSE(found->empty());
    CHECK(found->front().type == "crypto_LUKS");
}

TEST_CASE("swap and the root filesystem are recognised") {
    const Folder folder;
    write_text(folder / "fstab",
               "# comment\nUUID=1234 / ext4 defaults 0 1\nLABEL=data /data ext4 defaults 0 2\n");
    write_text(folder / "cmdline", "quiet root=LABEL=system ro\n");
    const auto is = [&](const std::string& type, const std::string& uuid,
                        const std::string& label) {
        Signature s;
        s.type = type;
        s.uuid = uuid;
        s.label = label;
        return is_swap_or_root(s, folder / "fstab", folder / "cmdline");
    };
    CHECK(is("swap", "", ""));
    CHECK(is("ext4", "1234", ""));
    CHECK(is("ext4", "", "system"));
    CHECK_FALSE(is("ext4", "9", "data"));
    CHECK_FALSE(is("ext4", "", ""));
}

TEST_CASE("LVM's filter has to reject every name of the device") {
    const Folder folder;
    const std::vector<std::string> files{folder / "lvm.conf", folder / "lvmlocal.conf"};
    std::vector<std::string> names{"/dev/sdb", "/dev/disk/by-id/x.1"};
    const auto with = [&](const std::string& main, const std::string& local) {
        write_text(files[0], main);
        write_text(files[1], local);
        return lvm_rejects(names, files);
    };
    CHECK_FALSE(lvm_rejects(names, files)); // no such files
    CHECK_FALSE(with("devices {\n}\n", ""));
    CHECK(with("", "devices {\n " + lvm_filter_line(names) + "\n}\n"));
    CHECK_FALSE(with("", "devices {\n # " + lvm_filter_line(names) + "\n}\n"));
    CHECK_FALSE(with("", "global_filter = [ \"r|^/dev/sdb$|\", \"a|.*|\" ]"));
    CHECK(with("", "global_filter = [ \"r|^/dev/sdb$|\" ]"));
    names.push_back("/dev/disk/by-diskseq/3");
    CHECK(with("", lvm_filter_line(names)));
    CHECK(lvm_filter_line(names).find("diskseq") == std::string::npos);
    CHECK(lvm_filter_line(names).find("sdb") == std::string::npos);
    // This boot's number only.
    CHECK_FALSE(
        with("", "global_filter = [ \"r|sdb|\", \"r|by-id|\", \"r|diskseq/3|\", \"a|.*|\" ]"));
    CHECK(with("", "global_filter = [ \"r|sdb|\", \"r|by-id|\", \"r|diskseq/|\", \"a|.*|\" ]"));
    // What is on the disk is the volume's, once that is attached.
    names.back() = "/dev/disk/by-id/lvm-pv-uuid-x";
    CHECK(lvm_filter_line(names).find("lvm-pv") == std::string::npos);
    CHECK_FALSE(with("", "global_filter = [ \"r|lvm-pv-uuid-x|\" ]"));
    names.pop_back();
    CHECK_FALSE(with("", "global_filter = [ \"a|.*|\", \"r|^/dev/sdb$|\", \"r|x.1|\" ]"));
    CHECK(with("filter = \"r|.*|\"", ""));
    CHECK(with("devices {\n global_filter = [ \"a|.*|\" ]\n}",
               "devices { global_filter = [ \"r|.*|\" ] }"));
    CHECK_FALSE(with("global_filter = [ \"r|(|\" ]", ""));
    CHECK(lvm_filter_line(names).find("by-id/x\\.1$") != std::string::npos);
}
