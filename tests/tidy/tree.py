# SPDX-License-Identifier: Apache-2.0
"""The files of the project: git's list in a repository, else a walk that leaves builds out."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = {".h", ".hpp", ".c", ".cc"}


def tracked_files(root=ROOT):
    """Paths relative to root, new files that are not ignored included, sorted."""
    run = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if run.returncode == 0 and run.stdout:
        names = {pathlib.Path(os.fsdecode(name)) for name in run.stdout.split(b"\0") if name}
        return sorted(name for name in names if (root / name).is_file())
    return sorted(walk(root))


def walk(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not name.startswith("build") and name not in {".git", ".cache", "__pycache__"}
        ]
        yield from (pathlib.Path(folder, name).relative_to(root) for name in names)


def code_files(root=ROOT):
    return [path for path in tracked_files(root) if path.suffix in CODE]


def shell_files(root=ROOT):
    def is_shell(path):
        with open(root / path, "rb") as file:
            first = file.readline(80)
        return first.startswith(b"#!") and first.split()[-1].rsplit(b"/", 1)[-1] in {
            b"sh",
            b"bash",
        }

    return [path for path in tracked_files(root) if path.suffix == ".sh" or is_shell(path)]
