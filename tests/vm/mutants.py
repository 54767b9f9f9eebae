#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Do the suites notice a broken kernel shim? mutants.py [-b BUILD-FOLDER] [-k 6.1|6.12] [NAME...]

Each mutant is one fault put into a copy of the sources; the suite named beside it must fail. Prints `ok NAME` or
`FAILED NAME` (it was not noticed). Wants an idle machine: a suite that hangs has noticed. VM_KERNELS as for run.sh, in a folder that no other run uses meanwhile.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# name: (file of kernel-shim, what stands there once, what stands there instead, the suite that must fail)
MUTANTS = {
    "a fence lets pass": (
        "linux/io.c", "} else if (piece.verdict == DEK_PASS) {",
        "} else if (piece.verdict == DEK_PASS || piece.verdict == DEK_FENCED) {", "fences"),
    "a held range lets pass": (
        "linux/io.c", "} else if (piece.verdict == DEK_PASS) {",
        "} else if (piece.verdict == DEK_PASS || piece.verdict == DEK_WAIT) {", "changes"),
    "a write to an unmapped device passes": (
        "core/snapshot.c", "s->verdict[DEK_RANGE_PLAIN][1] = DEK_REFUSE;",
        "s->verdict[DEK_RANGE_PLAIN][1] = DEK_PASS;", "fences"),
    "discards always": ("linux/target.c", "ti->num_discard_bios = t->allow_discards;",
                        "ti->num_discard_bios = t->allow_discards = true;", "fences"),
    "the tweak is one off": ("linux/crypt.c", "cpu_to_le64(c->run.tweak);", "cpu_to_le64(c->run.tweak + 1);", "keys"),
    "nobody waits for old I/O": ("linux/object.c", "	if (buckets) {\n", "	if (0) {\n", "conformance"),
    "I/O is not counted": ("linux/io.c", "	rcu_read_lock_sched();\n	dek_epoch_begin(",
                           "	rcu_read_lock_sched();\n	if (0)\n		dek_epoch_begin(", "changes"),
    "a merged bio keeps its neighbour": ("linux/io.c", "		bio->bi_next = NULL;\n", "", "holds"),
    "a bio is not cut at a border": ("linux/io.c", "	if (likely(sectors >= all))\n", "	if (1)\n", "ciphertext"),
    "the engine never fails": ("linux/crypt.c", "if (dek_rehearsal_fails())", "if (0)", "rehearsal"),
    "any table may take the endpoint": ("linux/object.c", "if (o->md != place->md)", "if (0)", "load"),
    "another offset is the same endpoint": ("linux/object.c", "if (o->device != place->device || o->first",
                                            "if (o->device != place->device || 0 * o->first", "load"),
    "the length is not looked at": ("linux/target.c", "ret = dek_endpoint_resize(", "ret = 0 && dek_endpoint_resize(",
                                    "load"),
    "TABLE forgets an option": ("linux/target.c", '			DMEMIT(" allow_discards");', '			DMEMIT("%s", "");', "load"),
    "a slow driver": ("linux/engine.c", "probe = crypto_alloc_skcipher(cipher_name(), 0, 0);",
                      "probe = crypto_alloc_skcipher(cipher_name(), 0, CRYPTO_ALG_ASYNC);", "load"),
    "a backlog is an error": ("linux/crypt.c", "ret == -EBUSY ? -EINPROGRESS : ret", "ret", "accelerator"),
    "what leaves the backlog is done": ("linux/crypt.c", "	if (error == -EINPROGRESS) /* it had to queue, and now has begun */\n		return;\n",
                                        "	if (error == -EINPROGRESS)\n		error = 0;\n", "accelerator"),
    "a wrapped key's tag is short": ("linux/kek.c", "crypto_aead_setauthsize(tfm, DEK_WRAP_TAG_SIZE)",
                                          "crypto_aead_setauthsize(tfm, 4)", "keys"),
    "a suspend leaves what waits": ("linux/waiting.c", "		stop_waiting(o, DEK_PUSHED_BACK);\n", "		;\n", "fences"),
    "a suspend with flush never gives up": ("linux/waiting.c", "suspend_patience) * HZ);", "suspend_patience) * HZ * 1000);",
                                            "fences"),
    "what an engine fails is not tried again": ("linux/waiting.c", "		else if (io->failing)\n", "		else if (0)\n", "rehearsal"),
    "a failing engine ends I/O at once": ("linux/waiting.c", "fence == DEK_FENCE_EIO && engine_had_its_time(io)", "fence == DEK_FENCE_EIO && (engine_had_its_time(io) || 1)",
                                          "rehearsal"),
    "I/O waits for ever for its engine": ("linux/waiting.c", "fence == DEK_FENCE_EIO && engine_had_its_time(io)", "0 && engine_had_its_time(io)", "rehearsal"),
    "a path whose engine fails holds I/O": ("linux/waiting.c", "if (fence == DEK_FENCE_TRANSPORT)", "if (0)", "rehearsal"),
    "a mirror's leg loses patience": ("linux/waiting.c", "fence == DEK_FENCE_EIO && engine_had_its_time(io)", "engine_had_its_time(io)",
                                      "rehearsal"),
    "ciphertext is deciphered twice": ("linux/waiting.c", "		bio->bi_iter = io->piece;\n", "", "rehearsal"),
    "what waits stays in flight": ("linux/waiting.c", "	dek_io_let_go(io, bio);\n", "", "rehearsal"),
    "events are lost": ("linux/events.c", "	if (too_many(o, type))\n", "	if (too_many(o, type) || 1)\n", "controller"),
    "a block is cut at Associate": ("linux/object.c", "		.block = place->cut,\n", "", "fences"),
}


def sources(work):
    for part in ("kernel-shim", "libdekproto", "tests/vm", "docs", "utils"):
        shutil.copytree(f"{TOP}/{part}", f"{work}/{part}", symlinks=True)


def noticed(name, build, kernel):
    file, old, new, suite = MUTANTS[name]
    with tempfile.TemporaryDirectory(prefix="dekstack-mutant.") as work:
        sources(work)
        path = f"{work}/kernel-shim/{file}"
        with open(path, encoding="utf-8") as source:
            text = source.read()
        if text.count(old) != 1:
            print(f"FAILED {name}: {file} has changed")
            return False
        with open(path, "w", encoding="utf-8") as source:
            source.write(text.replace(old, new))
        run = subprocess.run([f"{work}/tests/vm/run.sh", "-b", build, "-s", suite, kernel], capture_output=True,
                             text=True, errors="replace", check=False, env=dict(os.environ, VM_SECONDS="400"))
        lines = run.stdout.splitlines()
        if any(line.startswith("FAILED") and "builds" in line for line in lines):
            print(f"FAILED {name}: does not build\n" + run.stdout[-2000:])
            return False
        # A check that fails, a kernel that falls over, or one that hangs: the suites need a quarter of the time there is.
        found = [line[7:] for line in lines if line.startswith("FAILED") and not line.endswith(" s)")]
        found += [line for line in lines if "Oops" in line or "BUG:" in line or line.startswith("vm: ") and line != "vm: up"]
        print(f"{'ok' if found else 'FAILED'} {name}: {found[0] if found else suite + ' does not notice'}", flush=True)
        return bool(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", dest="build", default=f"{TOP}/build")
    parser.add_argument("-k", dest="kernel", default="6.12")
    parser.add_argument("name", nargs="*")
    arguments = parser.parse_args()
    os.environ.setdefault("VM_KERNELS", f"{TOP}/build/vm")
    return not all([noticed(name, os.path.abspath(arguments.build), arguments.kernel)
                    for name in arguments.name or MUTANTS])


sys.exit(main())
