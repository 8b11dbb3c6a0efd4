#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shared object exports every function of the header, and nothing that is not bb_*."""
import re
import subprocess
import sys

library, header = sys.argv[1:3]
symbols = subprocess.run(
    ["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True
).stdout
exported = {
    line.split()[2].split("@")[0]
    for line in symbols.splitlines()
    if line.split()[1] in "TtWwVvuBDR"
}
exported.discard("BLOCKBRIDGE_0")
text = open(header).read()
text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
declared = set(re.findall(r"BB_API[^;]*?\b(bb_\w+)\(", text))
failures = [f"{name}: exported, but not in the header" for name in sorted(exported - declared)]
failures += [f"{name}: declared, but not exported" for name in sorted(declared - exported)]
print("\n".join(failures) or f"{len(declared)} functions declared, all exported, nothing else")
sys.exit(1 if failures else 0)
