#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""udev_test.py syntax RULES                    every line is made of known keys, operators and quoted values
udev_test.py events RULES DEK-PROBE SAMPLES  `udevadm test` with the rules among those of this system, on loop devices,
                                             in namespaces of their own; exit 77 where that cannot be

This system's udevadm has no `verify`. Both read the rules as they will be installed, events with the path of the
dek-probe that was just built.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
MATCH = {"SUBSYSTEM", "ACTION", "KERNEL", "KERNELS", "ATTR", "ATTRS", "ENV", "DEVTYPE", "PROGRAM", "RESULT", "TEST"}
ASSIGN = {"ENV", "SYMLINK", "GOTO", "LABEL", "IMPORT", "PROGRAM", "OPTIONS", "RUN"}
PART = re.compile(r'\s*([A-Z_]+)(\{[^}]*\})?\s*(==|!=|\+=|=)\s*"([^"]*)"\s*(,|$)')


def parts_of(line):
    at, parts = 0, []
    while at < len(line):
        found = PART.match(line, at)
        assert found, f"not understood: {line[at:]}"
        parts.append(found.groups()[:4])
        at = found.end()
    return parts


def logical_lines(path):
    with open(path, encoding="utf-8") as file:
        return [l.strip() for l in file.read().replace("\\\n", "").splitlines()
                if l.strip() and not l.lstrip().startswith("#")]


def check_syntax(path):
    labels, jumps = [], []
    for line in logical_lines(path):
        for key, _, operator, value in parts_of(line):
            known = MATCH if operator in ("==", "!=") else ASSIGN
            assert key in known, f"{key} {operator} in: {line}"
            if key == "LABEL":
                labels.append(value)
            if key == "GOTO":
                assert value not in labels, f"{value} lies behind"  # udev only jumps ahead
                jumps.append(value)
    assert len(labels) == len(set(labels)) and set(jumps) == set(labels), "labels and jumps differ"
    with open(path, encoding="utf-8") as file:
        assert "@" not in re.sub(r"^#.*", "", file.read(), flags=re.M), "an unfilled placeholder"
    print(f"{len(logical_lines(path))} lines, {len(jumps)} jumps")


class Skip(Exception):
    pass


def call(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def private_system(rules, probe, directory):
    """/dev, /run and /etc/udev of our own, the rules in them."""
    call("mount", "--make-rprivate", "/")
    devices = os.path.join(directory, "dev")
    os.mkdir(devices)
    call("mount", "-t", "tmpfs", "none", devices)
    for node in ("null", "zero", "urandom", "loop-control"):
        call("cp", "-a", f"/dev/{node}", devices)
    call("mount", "--move", devices, "/dev")
    call("mount", "-t", "tmpfs", "none", "/run")
    if os.path.isdir("/etc/udev"):
        call("mount", "-t", "tmpfs", "none", "/etc/udev")
    os.makedirs("/run/udev/rules.d")
    os.makedirs("/run/dekstack")
    with open(rules, encoding="utf-8") as file:
        text = file.read()
    with open("/run/udev/rules.d/63-dekstack.rules", "w", encoding="utf-8") as file:
        file.write(re.sub(r'"/\S*/dek-probe ', f'"{probe} ', text))
    # A by-id link for every device, as of a disk that has a serial number.
    with open("/run/udev/rules.d/59-serial.rules", "w", encoding="utf-8") as file:
        file.write('SUBSYSTEM=="block", SYMLINK+="disk/by-id/sample-%k"\n')


def node(name):
    with open(f"/sys/class/block/{name}/dev", encoding="ascii") as file:
        numbers = file.read().strip().split(":")
    if not os.path.exists(f"/dev/{name}"):
        call("mknod", f"/dev/{name}", "b", *numbers)


class Loop:
    def __init__(self, image):
        for attempt in range(10):
            self.name = os.path.basename(call("losetup", "-f"))
            node(self.name)
            try:
                call("losetup", "/dev/" + self.name, image)
                return
            except subprocess.CalledProcessError:  # somebody else was faster
                time.sleep(0.1 * attempt)
        raise Skip("no loop device is to be had")

    def __enter__(self):
        return self.name

    def __exit__(self, *_):
        call("losetup", "-d", "/dev/" + self.name)


def simulate(name, action):
    return subprocess.run(["udevadm", "test", "-a", action, f"/sys/class/block/{name}"], capture_output=True,
                          text=True, timeout=60, check=False)


def event(name, action="add"):
    """Properties and links (without /dev/) after the event."""
    node(name)
    done = simulate(name, action)
    properties = dict(l.split("=", 1) for l in done.stdout.splitlines() if re.match(r"[A-Z_]+=", l))
    if "DEVNAME" not in properties:
        raise Skip("udevadm test does not work here: " + done.stderr[-300:])
    return properties, properties.get("DEVLINKS", "").replace("/dev/", "").split()


def expect(condition, what, found):
    if not condition:
        raise AssertionError(f"{what}: {found}")


def filesystem(image, *options):
    call("mkfs.ext2", "-q", "-F", "-L", "inside", *options, image, "400k")


def check_plain(directory):
    image = os.path.join(directory, "plain")
    with open(image, "wb") as file:
        file.truncate(20480 * 512)
    filesystem(image)
    with Loop(image) as name:
        properties, links = event(name)
    expect(properties.get("ID_FS_TYPE") == "ext2" and "disk/by-label/inside" in links, "a plain disk is left alone", links)
    expect("DEK_PLACE" not in properties, "a plain disk is left alone", properties)


def check_in_place(directory):
    image = os.path.join(directory, "in-place")
    filesystem(image)
    with Loop(image) as name:
        properties, links = event(name)
        expect(properties.get("ID_FS_TYPE") == "dekstack", "type", properties)
        expect(properties.get("SYSTEMD_READY") == "0", "systemd waits for nothing", properties)
        expect(properties.get("DEK_PLACE") == "in-place" and "ID_FS_LABEL" not in properties, "what blkid said", properties)
        expect(f"disk/by-id/sample-{name}" in links, "harmless links stay", links)
        expect(not [l for l in links if "by-uuid" in l or "by-label" in l], "no link by contents", links)
        again, _ = event(name, "change")
        expect(again.get("SYSTEMD_READY") == "0", "so after every change", again)
        expect("dek-probe" in simulate(name, "change").stderr, "the simulation tells what it runs", name)
        expect("dek-probe" not in simulate(name, "remove").stderr, "a removed device is not probed", name)


def check_own_nodes(directory):
    """Device-mapper nodes are told by what its own rules have set before: played by a rule here."""
    filesystem(os.path.join(directory, "in-place"))
    for before in ('ENV{DM_UUID}="DEK-example"', 'ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"'):
        with open("/run/udev/rules.d/58-before.rules", "w", encoding="utf-8") as file:
            file.write(before + "\n")
        with Loop(os.path.join(directory, "in-place")) as name:
            properties, _ = event(name)
            log = simulate(name, "change").stderr
        os.unlink("/run/udev/rules.d/58-before.rules")
        expect("DEK_PLACE" not in properties and "dek-probe" not in log, before, properties)


def check_unusable(directory):
    image = os.path.join(directory, "contradiction")
    filesystem(image)
    with Loop(image) as name:
        properties, links = event(name)
    expect(properties.get("ID_FS_TYPE") == "dekstack" and properties.get("SYSTEMD_READY") == "0",
           "an unusable header keeps others off", properties)
    expect(not [l for l in links if "by-label" in l], "no link by contents", links)


def check_default(directory):
    with Loop(os.path.join(directory, "default")) as name:
        properties, links = event(name)
    expect(properties.get("ID_FS_TYPE") == "dekstack" and properties.get("DEK_PLACE") == "default", "type", properties)
    expect("SYSTEMD_READY" not in properties, "a device that is no use raw need not be hidden", properties)
    expect(f"disk/by-id/sample-{name}" in links, "its links stay", links)


def check_own_volume(directory):
    """Through a volume in place the header can be read; the volume is not the raw device."""
    image = "/run/dekstack/volume"
    shutil.copy(os.path.join(directory, "in-place"), image)
    filesystem(image)
    with Loop(image) as name:
        properties, links = event(name)
    expect(properties.get("ID_FS_TYPE") == "ext2" and "disk/by-label/inside" in links, "dekstack's own volume", properties)
    expect(properties.get("SYSTEMD_READY") != "0" and "DEK_PLACE" not in properties, "dekstack's own volume", properties)


def check_alias(directory):
    """systemd has a name for a volume's node: the one that kcmd links to it."""
    image = "/run/dekstack/shim/volumes/first.one"
    os.makedirs(os.path.dirname(image))
    shutil.copy(os.path.join(directory, "in-place"), image)
    with Loop(image) as name:
        properties, _ = event(name)
    expect(properties.get("SYSTEMD_ALIAS") == "/dev/dek/first.one", "the userspace shim's", properties)
    with open("/run/udev/rules.d/58-before.rules", "w", encoding="utf-8") as file:
        file.write('ENV{DM_UUID}="DEK-example", ENV{DM_NAME}="dek-dek-a"\n')
    with Loop(os.path.join(directory, "plain")) as name:
        properties, _ = event(name)
        os.unlink("/run/udev/rules.d/58-before.rules")
        others, _ = event(name)
    expect(properties.get("SYSTEMD_ALIAS") == "/dev/dek/dek-a", "the kernel shim's", properties)
    expect("SYSTEMD_ALIAS" not in others, "nobody else's", others)


def check_partition(directory):
    for disk in ("in-place", "contradiction"):
        check_partition_of(disk, directory)


def check_partition_of(disk, directory):
    """As the kernel finds it in a partition table that lies in a plain range."""
    image = os.path.join(directory, "with-partition")
    shutil.copy(os.path.join(directory, disk), image)
    filesystem(image, "-E", f"offset={128 * 512}")
    with Loop(image) as name:
        call("addpart", f"/dev/{name}", "1", "128", "896")
        part = name + "p1"
        event(name)
        properties, links = event(part)
        call("delpart", f"/dev/{name}", "1")
    expect(properties.get("PARTN") == "1", "the partition is there", properties)
    expect("ID_FS_TYPE" not in properties and properties.get("SYSTEMD_READY") == "0", "a partition in it", properties)
    expect(f"disk/by-id/sample-{part}" in links, "harmless links stay", links)
    expect(not [l for l in links if "by-uuid" in l or "by-label" in l], "no link by contents", links)


def inside(rules, probe, samples):
    with tempfile.TemporaryDirectory() as directory:
        private_system(rules, probe, directory)
        call(samples, directory)
        check_plain(directory)
        for check in (check_in_place, check_own_nodes, check_unusable, check_default, check_own_volume, check_alias,
                      check_partition):
            check(directory)
            print(check.__name__.replace("check_", "").replace("_", " "))


def events(arguments):
    tools = ("udevadm", "unshare", "losetup", "mkfs.ext2", "addpart")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)) or not os.path.exists("/dev/loop-control"):
        print("skipped: needs root, loop devices and", *tools)
        return SKIPPED
    return subprocess.run(["unshare", "-m", sys.executable, __file__, "inside", *arguments], check=False).returncode


def main(what, *arguments):
    try:
        if what == "syntax":
            check_syntax(*arguments)
        elif what == "inside":
            inside(*arguments)
        else:
            return events(arguments)
    except Skip as reason:
        print("skipped:", reason)
        return SKIPPED
    except subprocess.CalledProcessError as error:
        print(error, error.stderr)
        return 1
    return 0


sys.exit(main(*sys.argv[1:]))
