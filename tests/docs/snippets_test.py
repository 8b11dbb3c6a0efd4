#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every fenced snippet of README.md and docs/ as it stands there.

c and cpp blocks are compiled against the built library, python blocks get the built module, sh
blocks run in a scratch directory with the programs on PATH. Text blocks (formats, output) carry
another language or none. A block that cannot be run here has the line `<!-- not run: why -->`
before it; it is listed, not counted as passed.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FENCE = re.compile(r"(?P<before>[^\n]*\n)?```(?P<lang>c|cpp|python|sh)\n(?P<code>.*?)\n```", re.S)
COMPILERS = {"c": ["clang-19", "-std=c11"], "cpp": ["clang++-19", "-std=c++17"]}


def run(command, scratch, env):
    done = subprocess.run(
        command, cwd=scratch, env=env, capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command[:3])}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )


def run_snippet(language, code, source, build, scratch):
    library = build / "libblockbridge" / "capi"
    env = dict(
        os.environ, LD_LIBRARY_PATH=str(library), PYTHONPATH=str(build / "bindings" / "python")
    )
    programs = sorted(
        {
            str(path.parent)
            for path in (build / "programs").rglob("*")
            if path.is_file() and os.access(path, os.X_OK)
        }
    )
    env["PATH"] = os.pathsep.join(programs + [env["PATH"]])
    if language == "python":
        run(["/usr/bin/python3", "-c", code], scratch, env)
    elif language == "sh":
        run(["sh", "-euc", code], scratch, env)
    else:
        name = f"snippet.{language}"
        (scratch / name).write_text(code)
        run(
            COMPILERS[language]
            + [
                "-Wall",
                "-Wextra",
                "-Werror",
                f"-I{source}/include",
                name,
                "-o",
                "snippet",
                f"-L{library}",
                "-lblockbridge",
            ],
            scratch,
            env,
        )
        run(["./snippet"], scratch, env)


def main(source, build):
    failed = ran = 0
    for page in [source / "README.md", *sorted((source / "docs").rglob("*.md"))]:
        text = page.read_text()
        for found in FENCE.finditer(text):
            where = f"{page.relative_to(source)}:{text.count(chr(10), 0, found.start('code'))}"
            if "<!-- not run:" in (found["before"] or ""):
                print(f"not run  {where}: {found['before'].strip()}")
                continue
            ran += 1
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    run_snippet(
                        found["lang"], found["code"], source, build, pathlib.Path(scratch)
                    )
                    print(f"ok       {where} ({found['lang']})")
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failed += 1
                    print(f"FAILED   {where} ({found['lang']}): {error}")
    print(f"{ran} snippets, {failed} failed")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()))
