#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""probe_test.py DEK-PROBE SAMPLES: dek-probe on images of every kind: what it prints, how it ends, and that it leaves
what it looks at alone."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest

PROBE, SAMPLES = sys.argv[1:3]


def run(*arguments):
    done = subprocess.run([PROBE, *arguments], capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


def exported(*arguments):
    code, out, _ = run("--export", *arguments)
    return code, dict(line.split("=", 1) for line in out.splitlines())


class Probe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        subprocess.run([SAMPLES, cls.directory.name], check=True)
        with open(cls.path("expected.json"), encoding="utf-8") as file:
            cls.says = {case["file"]: case["says"] for case in json.load(file)}

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.directory.name, name)

    def image(self, name, contents=b"", size=20480 * 512):
        with open(self.path(name), "wb") as file:
            file.truncate(size)
            file.write(contents)
        return self.path(name)

    def test_finds_a_header_at_each_place_it_looks_at(self):
        for name, lba in (("default", 0), ("in-place", 1024), ("largest", 19968)):
            code, keys = exported(self.path(name))
            self.assertEqual(code, 0)
            self.assertEqual(keys["ID_FS_TYPE"], "dekstack")
            self.assertEqual(keys["ID_FS_USAGE"], "crypto")
            self.assertEqual(keys["ID_FS_UUID"], self.says[name]["uuid"])
            self.assertEqual(keys["DEK_NAME"], self.says[name]["name"])
            self.assertEqual(keys["DEK_PLACE"], self.says[name]["place"])
            self.assertEqual(keys["DEK_HEADER_LBA"], str(lba))
            self.assertEqual(keys["DEK_STATE"], "valid")

    def test_prints_for_people_and_as_json(self):
        code, out, _ = run(self.path("in-place"))
        self.assertEqual(code, 0)
        self.assertIn("in-place, header at LBA 1024", out)
        self.assertIn("17920 LBAs in 2 ranges", out)
        code, out, _ = run("--json", self.path("in-place"))
        header = json.loads(out)["headers"][0]
        self.assertEqual((code, header["uuid"]), (0, self.says["in-place"]["uuid"]))
        self.assertEqual([[r["first"], r["last"] - r["first"] + 1, r["key"]] for r in header["ranges"]],
                         self.says["in-place"]["ranges"])
        self.assertIsNone(header["authenticated"])
        self.assertNotIn("check", out)
        self.assertNotIn("salt", out)

    def test_nothing_found_is_a_status_of_its_own(self):
        for contents in (b"", b"\xa5" * 1000000):
            image = self.image("blank", contents)
            self.assertEqual(run(image), (4, "", f"dek-probe: nothing of dekstack on {image}\n"))
        self.assertEqual(run("--export", self.image("blank")), (4, "", ""))
        self.assertEqual(json.loads(run("--json", self.image("blank"))[1])["headers"], [])
        self.assertEqual(run(self.image("tiny", size=700))[0], 4)
        self.assertEqual(run(self.image("empty", size=0))[0], 4)

    def test_header_at_looks_there_only(self):
        self.assertEqual(run("--header-at", "1024", self.path("in-place"))[0], 0)
        self.assertEqual(run("--header-at", "0", self.path("in-place"))[0], 4)
        self.assertEqual(run("--header-at", "999999999", self.path("in-place"))[0], 4)

    def test_header_file(self):
        code, out, _ = run("--header", self.path("detached"))
        self.assertEqual(code, 0)
        self.assertIn("in a file of its own", out)
        self.assertEqual(run("--header", self.path("detached"), self.path("in-place"))[0], 0)
        code, _, err = run("--header", self.path("detached"), self.image("small", size=4096))
        self.assertEqual(code, 1)
        self.assertIn("too small", err)
        self.assertEqual(run("--header", self.path("nowhere"))[0], 1)

    def test_a_detached_header_on_a_device_is_not_its_own(self):
        with open(self.path("detached"), "rb") as file:
            code, _, err = run(self.image("copied", file.read()))
        self.assertEqual(code, 1)
        self.assertIn("a file of its own", err)

    def test_the_header_of_a_partition_is_not_the_disks(self):
        with open(self.path("default"), "rb") as file:
            header = file.read(131072)
        self.assertEqual(run(self.image("partitioned", bytes(1024 * 512) + header))[0], 4)

    def test_a_volume_shrunk_is_told(self):
        image = self.image("shrunk", size=20000 * 512)
        with open(self.path("in-place"), "rb") as old, open(image, "r+b") as new:
            new.write(old.read(20000 * 512))
        code, _, err = run(image)
        self.assertEqual(code, 1)
        self.assertIn("too small", err)

    def test_unusable_headers_fail_but_are_exported(self):
        for name, state in (("too-new", "unsupported"), ("contradiction", "corrupt")):
            code, _, err = run(self.path(name))
            self.assertEqual(code, 1)
            self.assertTrue(err.startswith("dek-probe: "))
            code, keys = exported(self.path(name))
            self.assertEqual((code, keys["ID_FS_TYPE"], keys["DEK_STATE"]), (0, "dekstack", state))
            self.assertNotIn("DEK_PLACE", keys)
            self.assertEqual(json.loads(run("--json", self.path(name))[1])["trouble"]["code"], state)

    def test_one_torn_copy_is_told(self):
        self.assertEqual(exported(self.path("one-torn"))[1]["DEK_STATE"], "torn")
        self.assertIn("A torn, B valid", run(self.path("one-torn"))[1])

    def test_usage(self):
        for arguments in ((), ("--json", "--export", "x"), ("--header-at", "x", "y"), ("--novelty", "x"), ("a", "b"),
                          ("--header-at", "1", "--header", "f", "d"), ("--header-at", "-1", "d")):
            self.assertEqual(run(*arguments)[0], 2, arguments)
        self.assertEqual(run("--help")[0], 0)
        self.assertEqual(run("--version")[0], 0)

    def test_what_is_no_device_is_an_error_and_does_not_hang(self):
        os.mkfifo(self.path("fifo"))
        for what in (self.path("fifo"), self.directory.name, "/dev/null", self.path("missing")):
            code, out, err = run(what)
            self.assertEqual((code, out), (1, ""))
            self.assertIn(what, err)

    def test_looking_changes_nothing(self):
        path = self.path("one-torn")
        os.chmod(path, 0o400)
        with open(path, "rb") as file:
            before = hashlib.sha256(file.read()).digest()
        stamp = os.stat(path).st_mtime_ns
        trace = subprocess.run(["strace", "-f", "-e", "trace=openat,open", PROBE, path], capture_output=True,
                               text=True, check=False) if os.path.exists("/usr/bin/strace") else None
        run("--json", path)
        with open(path, "rb") as file:
            self.assertEqual(hashlib.sha256(file.read()).digest(), before)
        self.assertEqual(os.stat(path).st_mtime_ns, stamp)
        if trace:
            self.assertNotIn("O_RDWR", trace.stderr)
            self.assertNotIn("O_WRONLY", trace.stderr)

    def test_links_by_content_are_dropped(self):
        links = ["disk/by-uuid/1", "disk/by-id/a", "/dev/disk/by-label/x", "disk/by-path/p", "mapper/m"]
        self.assertEqual(run("--without-content-links", *links)[:2], (0, "disk/by-id/a disk/by-path/p mapper/m\n"))
        self.assertEqual(run("--without-content-links")[:2], (0, "\n"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]])
