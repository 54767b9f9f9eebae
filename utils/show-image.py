#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what lies in a raw image: show-image.py IMAGE [COLUMNS]. Looks at the bytes alone and knows no key: a block
whose bytes are evenly spread reads as cipher, anything else that is not zero as plain."""
import math
import os
import sys
from collections import Counter

BLOCK = 4096
# Entropy of 4096 evenly spread bytes is 7.95 bits a byte, give or take 0.01; text has 4 to 5.
CIPHER_BITS = 7.8


def kind(block):
    if not block.strip(b"\0"):
        return "."
    total = len(block)
    bits = -sum(n / total * math.log2(n / total) for n in Counter(block).values())
    return "#" if bits > CIPHER_BITS else "p"


def cell(kinds):
    """One character for a stretch: plain shows before cipher, so that no plain block is ever hidden."""
    return "p" if "p" in kinds else "#" if "#" in kinds else "."


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 2
    columns = int(sys.argv[2]) if len(sys.argv) == 3 else 64
    kinds = []
    with open(sys.argv[1], "rb") as image:
        while block := image.read(BLOCK):
            kinds.append(kind(block))
    rows = 16
    per = max(1, math.ceil(len(kinds) / (columns * rows)))
    line = "".join(cell(kinds[i:i + per]) for i in range(0, len(kinds), per))
    print(f"{os.path.basename(sys.argv[1])}: {len(kinds)} blocks of {BLOCK} bytes, {per} a character")
    for i in range(0, len(line), columns):
        print(f"  LBA {i * per * BLOCK // 512:>9}  {line[i:i + columns]}")
    count = Counter(kinds)
    print(f"  . zero {count['.']}   p plain {count['p']}   # cipher {count['#']}")
    return 0


sys.exit(main())
