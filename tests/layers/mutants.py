#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the layers in one small way after the other and expects their tests to notice.

    mutants.py [--cases N] [--jobs N] [--only NAME ...]

Each fault is a substitution in a copy of daemon/kcm/layers, which is compiled (only what it touches) and linked with
the unit tests and the property test. A fault is caught when one of them fails. Exit 0: all were.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ROOT / "daemon/kcm/layers"
TESTS = ROOT / "tests/layers"
FLAGS = ["-std=c++20", "-O1", "-g0", "-w"]

# (name, file, what stands there, what stands there instead)
FAULTS = [
    ("segment-offset", "placement.cpp", "Wide(g.device_origin) + to - from,", "Wide(g.device_origin) + to,"),
    ("stripe-leg", "placement.cpp", "striped.leg = static_cast<__u16>(i);", "striped.leg = 0;"),
    ("stripe-count", "placement.cpp", "static_cast<__u16>(layer.legs.size());",
     "static_cast<__u16>(layer.legs.size() + 1);"),
    ("stripe-last-chunk", "placement.cpp", "(leg == in_row ? end % chunk : 0)", "(leg == in_row ? chunk : 0)"),
    ("stripe-row-order", "placement.cpp", "if (leg < in_row)", "if (leg <= in_row)"),
    ("stripe-of-stripes", "placement.cpp", "    if (g.chunk)\n        return refuse(\"is striped",
     "    if (false)\n        return refuse(\"is striped"),
    ("chunk-cuts-unit", "placement.cpp", "if (layer.chunk % unit_lbas(g))", "if (false)"),
    ("segment-cuts-unit", "placement.cpp", "if (!whole_units(here, unit_lbas(g)))", "if (false)"),
    ("offset-cuts-unit", "placement.cpp", "if (to % unit != from % unit)", "if (false)"),
    ("partial-row-number", "placement.cpp", "number_at(g, logical_origin, Wide(first) - device_origin)",
     "number_at(g, logical_origin, Wide(first) - device)"),
    ("partial-row-lost", "placement.cpp", "before = part_of(map, 0, origin); !before.empty()",
     "before = part_of(map, 0, origin); false"),
    ("failed-path-is-fenced", "placement.cpp", "if (paths == Paths::in_use && !d.legs[i].may_carry_io())", "if (false)"),
    ("failed-plain-path-is-forgotten", "decision.cpp", "open = open || leaf != SIZE_MAX;", ""),
    ("failed-plain-path-below", "decision.cpp", "Paths::failed_too)", "Paths::in_use)"),
    ("opaque-is-a-fence", "placement.cpp", "    if (d.leaf())\n        return device;",
     "    if (d.leaf())\n        return SIZE_MAX;"),
    ("query-first-leg-decides", "layer.cpp", "        refused = worse(refused, status);\n        affirmed",
     "        if (affirmed == 0)\n            refused = worse(refused, status);\n        affirmed"),
    ("query-paths-need-all", "layer.cpp", "return device().any_leg_serves() && affirmed ? DEK_OK : refused;",
     "return refused;"),
    ("query-any-is-enough", "layer.cpp", "return device().any_leg_serves() && affirmed ? DEK_OK : refused;",
     "return affirmed ? DEK_OK : refused;"),
    ("query-failed-paths", "layer.cpp", "if (device().legs[i].may_carry_io() && !maps[i].empty())",
     "if (!maps[i].empty())"),
    ("handshake-needs-all", "layer.cpp", "if (shared_->options.strict_handshake && refused != DEK_OK)",
     "if (refused != DEK_OK)"),
    ("strict-handshake-is-loose", "layer.cpp", "if (shared_->options.strict_handshake && refused != DEK_OK)",
     "if (false)"),
    ("version-of-the-last", "layer.cpp", "version = std::min(version, dek_get_le32(&h->version));",
     "version = dek_get_le32(&h->version);"),
    ("version-rule", "layer.cpp", "if (version < shared_->options.needs_version)\n        return dek_block_answer",
     "if (false)\n        return dek_block_answer"),
    ("endpoints-id-shown", "layer.cpp", "dek_put_le64(&header_of(block.data())->endpoint_id, view.id);", ";"),
    ("foreign-block-kept", "layer.cpp", "        return forward(block);",
     "        return dek_block_answer(block.data(), DEK_UNKNOWN_ENDPOINT);"),
    ("new-life-not-met", "layer.cpp", "for (int lives = 0; lives < 2; lives++)",
     "for (int lives = 0; lives < 1; lives++)"),
    ("range-beyond-layer", "layer.cpp", "!valid || valid->fits(device().size, 0) != DEK_OK", "!valid"),
    ("obstacle-ignored", "layer.cpp", "if (!device().obstacle.empty())\n        return remark", 
     "if (false)\n        return remark"),
    ("all-legs-where-one-does", "layer_association.cpp", "chosen[i] = status == DEK_OK;", "chosen[i] = true;"),
    ("unfenced-path-taken", "layer_association.cpp", "            leaf != SIZE_MAX)\n", "            false)\n"),
    ("overlap-allowed", "layer_association.cpp", "if (overlaps_another(view, request.map, old))", "if (false)"),
    ("wrapped-key-passed", "layer_association.cpp", "command.blob.type == DEK_BLOB_WRAPPED", "false"),
    ("refresh-any-map", "layer_association.cpp", "if (!(map == a->map) ||", "if ("),
    ("refresh-without-lost-legs", "layer_association.cpp",
     "            part.handle = 0;\n        else if (device()", "            ;\n        else if (device()"),
    ("refresh-other-key", "layer_association.cpp", "            refused = worse(refused, status);\n    }\n    if (confirmed)",
     "            ;\n    }\n    if (confirmed)"),
    ("failed-path-keeps-old-key", "layer_association.cpp",
     "        if (!may_carry_io(part.device))\n            let_go(part);\n    if",
     "        if (false)\n            let_go(part);\n    if"),
    ("disassociate-first-leg", "layer_association.cpp",
     "        const auto status = send_disassociate(part);\n        if (status == DEK_OK)\n            part.handle = 0;",
     "        const auto status = &part == &a->parts[0] ? send_disassociate(part) : DEK_OK;\n"
     "        if (status == DEK_OK)\n            part.handle = 0;"),
    ("orphan-forgotten", "layer_change.cpp", "        orphans_.push_back(part);\n", "        ;\n"),
    ("no-roll-back", "layer_change.cpp", "        if (!next.was) {\n            let_go(next.part);",
     "        if (!next.was) {"),
    ("not-restored", "layer_change.cpp", "if (sent && changed && (other_key || !restore(old, a.key_id)))",
     "if (false)"),
    ("doubt-ignored", "layer_change.cpp", "|| (i == change.updated && change.in_doubt)", ""),
    ("surplus-kept", "layer_change.cpp", "    for (const auto i : plan.surplus) {", "    for (const auto i : {0}) {\n        break;"),
    ("orphans-hidden", "layer_change.cpp", "            status = DEK_INVALID_HW_STATE;\n    }", "            ;\n    }"),
    ("parts-not-split", "parts.cpp", "const auto n = std::min(ranges.size(), capacity);",
     "const auto n = ranges.size() + 0 * capacity;"),
    ("held-elsewhere-taken", "parts.cpp", "LunMap fresh = rest.subtract(taken);", "LunMap fresh = rest;"),
    ("worst-last", "merge.cpp", "worst_first[i < j ? i : j]", "worst_first[i < j ? j : i]"),
    ("covered-with-open-path", "decision.cpp", "!steering.legs.empty() && !open", "!steering.legs.empty()"),
    ("one-leg-covers-all", "decision.cpp", "all.covered = all.covered && leg.covered;\n            all.add(std::move(leg));\n"
     "        }\n        return all;\n    }\n\n    // A leg that", "all.covered = leg.covered;\n            "
     "all.add(std::move(leg));\n        }\n        return all;\n    }\n\n    // A leg that"),
    ("any-engine-is-hardware", "decision.cpp", "? c.engines & hardware : c.engines", "? c.engines : c.engines"),
    ("unit-not-asked", "decision.cpp", "c.data_unit != g.data_unit ||", ""),
    ("map-cuts-units", "decision.cpp", "const auto first = r.first / unit * unit;", "const auto first = r.first;"),
    ("crypt-iv-from-0", "crypt_table.cpp", "std::to_string(r.lbas.first) + \" \" + place_of", "\"0 \" + place_of"),
    ("crypt-tweak-rule", "crypt_table.cpp", "v.tweak == DEK_TWEAK_UNIT ?", "v.tweak != DEK_TWEAK_UNIT ?"),
]


def sh(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


class Bench:
    """The unbroken objects, made once."""

    def __init__(self, work, jobs):
        self.work = work
        self.includes = [f"-I{ROOT}/{p}" for p in ("libdekproto/include", "kernel-shim/core", "tests/layers", "daemon")]
        self.layers = {p.name: self.object_of(p) for p in LAYERS.glob("*.cpp")}
        rest = [ROOT / "tests/catch_main.cpp", *TESTS.glob("*.cpp"), *(ROOT / "libdekproto/src").glob("*.c"),
                ROOT / "libdekproto/src/block.cpp", ROOT / "libdekproto/src/lunmap.cpp", ROOT / "libdekproto/src/ranges.cpp",
                *(ROOT / "kernel-shim/core").glob("*.c"), *(ROOT / "daemon/base" / f"{name}.cpp" for name in ("result", "secret"))]
        self.rest = {p: self.object_of(p) for p in rest}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            made = list(pool.map(self.make, [*LAYERS.glob("*.cpp"), *rest]))
        for run in made:
            if run.returncode:
                sys.exit(run.stdout)

    def object_of(self, path):
        return self.work / (str(path.relative_to(ROOT)).replace("/", "_") + ".o")

    def make(self, path):
        return self.compile(path, self.object_of(path))

    def compile(self, path, target, first_include=None):
        compiler = ["ccache", "gcc", "-std=gnu11", "-O1", "-w"] if path.suffix == ".c" else ["ccache", "g++", *FLAGS]
        includes = ([f"-I{first_include}"] if first_include else []) + self.includes
        return sh(*compiler, *includes, "-c", str(path), "-o", str(target))

    def link(self, target, replaced, property_test):
        own = {"property.cpp", "generator.cpp", "model.cpp"}
        common = {"bench.cpp"}
        objects = []
        for path, made in self.rest.items():
            if path.parent == TESTS and path.name not in common and (path.name in own) != property_test:
                continue
            if path.name == "catch_main.cpp" and property_test:
                continue
            objects.append(made)
        layers = {**self.layers, **replaced}
        return sh("g++", *map(str, objects), *map(str, layers.values()), "-o", str(target), "-lcrypto")

    def fails(self, replaced, folder, cases):
        """The test that fails with these objects, or None."""
        for test, arguments in (("layers_test", []), ("layers_property", ["--cases", str(cases)])):
            program = folder / test
            run = self.link(program, replaced, test == "layers_property")
            if run.returncode:
                return "NOT APPLIED: " + run.stdout
            try:
                if sh(str(program), *arguments, timeout=300).returncode:
                    return test
            except subprocess.TimeoutExpired:
                return test
        return None


def caught_by(bench, fault, cases):
    """The name of the test that noticed, None, or a sentence on why the fault is no fault."""
    name, file, before, after = fault
    folder = bench.work / name
    shutil.copytree(LAYERS, folder / "kcm/layers")
    source = folder / "kcm/layers" / file
    text = source.read_text()
    if text.count(before) != 1:
        return f"NOT APPLIED: {text.count(before)} places in {file}"
    source.write_text(text.replace(before, after))
    made = folder / "broken.o"
    run = bench.compile(source, made, folder)
    if run.returncode:
        return "NOT APPLIED: " + run.stdout.split("error:")[-1].strip().split("\n")[0]
    found = bench.fails({file: made}, folder, cases)
    shutil.rmtree(folder)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20000, help="of the property test, for what the unit tests miss")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="these faults alone, by their names")
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="dek-mutants-") as work:
        bench = Bench(pathlib.Path(work), options.jobs)
        if (broken := bench.fails({}, bench.work, options.cases)) is not None:
            sys.exit(f"without any fault {broken} fails")
        faults = [f for f in FAULTS if not options.only or f[0] in options.only]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for fault, found in zip(faults, pool.map(lambda f: caught_by(bench, f, options.cases), faults)):
                bad = found is None or found.startswith("NOT APPLIED")
                missed += bad
                print(f"{'FAILED' if bad else 'ok'} {fault[0]}: {found or 'not noticed'}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} faults caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
