#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`meson install` gives what a user needs and no internals: headers, library, .pc, module."""
import os
import pathlib
import subprocess
import sys
import tempfile

PROGRAM = """
#include <blockbridge/blockbridge.h>
#include <stdio.h>
int main(void) {
  bb_runtime *runtime = NULL;
  bb_device *device = NULL;
  char block[512] = "installed";
  if (bb_runtime_open(NULL, &runtime) || bb_device_open(runtime, "mem:1M", &device)) return 1;
  if (bb_device_write(device, 0, block, sizeof block)) return 1;
  bb_device_close(&device);
  bb_runtime_close(&runtime);
  puts(bb_version());
  return 0;
}
"""


def run(command, **more):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def main(build, compiler):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) / "root"
        run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", str(root)])
        found = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
        for wanted in (
            "blockbridge.pc",
            "libblockbridge.so.0",
            "blockbridge/blockbridge.h",
            "blockbridge/bb.hpp",
            "blockbridge/__init__.pyi",
        ):
            if not any(path.endswith(wanted) for path in found):
                print(f"not installed: {wanted}")
                return 1
        internal = [
            path for path in found if path.endswith(".a") or "gtest" in path or "sim" in path
        ]
        if internal:
            print(f"installed, but internal: {internal}")
            return 1
        package = next(root / path for path in found if path.endswith("blockbridge.pc"))
        env = dict(
            os.environ, PKG_CONFIG_PATH=str(package.parent), PKG_CONFIG_SYSROOT_DIR=str(root)
        )
        flags = run(["pkg-config", "--cflags", "--libs", "blockbridge"], env=env).split()
        (pathlib.Path(scratch) / "user.c").write_text(PROGRAM)
        run([compiler, "user.c", "-o", "user"] + flags, cwd=scratch)
        env["LD_LIBRARY_PATH"] = str(package.parent.parent)
        print(
            "libblockbridge",
            run(["./user"], cwd=scratch, env=env).strip(),
            "used from its installation",
        )
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
