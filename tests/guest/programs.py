# SPDX-License-Identifier: Apache-2.0
"""Programs, and modules, of one test inside a guest: a small archive behind the image, which the
kernel unpacks too.

The image itself stays as it is, and is made once.
"""
import lzma
import pathlib
import shutil
import subprocess
import tempfile

from image import libraries_of
from kernels import Unavailable


def with_programs(booted, programs, folder, modules=()):
    """(kernel, initramfs) with programs, stripped, in /usr/bin, and the libraries they need.

    Modules, which are files as modules_of() lists them, come to /modules, numbered in their order.
    """
    kernel, initramfs = booted
    with tempfile.TemporaryDirectory(dir=folder) as stage:
        stage = pathlib.Path(stage)
        for program in map(pathlib.Path, programs):
            if not program.exists():
                raise Unavailable(f"no program {program.name} in {program.parent}")
            target = stage / "usr/bin" / program.name
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["strip", "-o", target, program], check=True)
            for library, path in libraries_of(program):
                inside = stage / path.lstrip("/")
                inside.parent.mkdir(parents=True, exist_ok=True)
                if not inside.exists():
                    shutil.copy2(library, inside)
        for number, module in enumerate(modules):
            inside = stage / f"modules/{number:02}-{module.name.removesuffix('.xz')}"
            inside.parent.mkdir(exist_ok=True)
            data = module.read_bytes()
            inside.write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)
        whole = pathlib.Path(folder, "initramfs")
        with open(whole, "wb") as out, open(initramfs, "rb") as first:
            shutil.copyfileobj(first, out)
            out.write(bytes(-out.tell() % 512))
            out.flush()
            subprocess.run(
                "find . -print0 | cpio --null --create --format=newc --quiet --owner=+0:+0",
                shell=True, cwd=stage, stdout=out, check=True,
            )  # fmt: skip
    return kernel, whole
