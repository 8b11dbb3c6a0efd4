#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All checks of the source text: format, shell, source rules, clang-tidy.

clang-tidy takes seconds a file, so a file that passed is remembered in BUILD/tidy-cache by a hash
of all that can change its result; what --seconds leaves no time for is reported as skipped.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import tree

HERE = pathlib.Path(__file__).resolve().parent
TIDY_FOLDERS = ("libblockbridge/", "programs/")
OK, FAIL, SKIP = "OK", "FAIL", "SKIP"


def run(*command):
    done = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def passed_or_failed(*command):
    code, output = run(*command)
    return (OK, "") if code == 0 else (FAIL, output)


def clang_format(_options):
    files = [str(path) for path in tree.code_files()]
    return (
        passed_or_failed("clang-format-19", "--dry-run", "-Werror", *files) if files else (OK, "")
    )


def shellcheck(_options):
    return passed_or_failed("shellcheck", *map(str, tree.shell_files()))


def source_rules(_options):
    return passed_or_failed(sys.executable, str(HERE / "source_rules.py"))


def closure(file, seen):
    """The file and all headers of ours that it includes, directly or not."""
    if file in seen or not file.is_file():
        return
    seen.add(file)
    for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', file.read_text(), re.M):
        for folder in (
            file.parent,
            tree.ROOT / "libblockbridge",
            tree.ROOT / "include",
            tree.ROOT,
        ):
            closure(folder / name, seen)


def cache_key(entry, file):
    seen = set()
    closure(file, seen)
    digest = hashlib.sha256(entry["command"].encode() + (tree.ROOT / ".clang-tidy").read_bytes())
    for path in sorted(seen):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def recently_changed():
    """Paths that the last commits touched, so that a bounded run looks at them first."""
    return set(run("git", "log", "-n", "30", "--format=", "--name-only")[1].splitlines())


def tidy_work(build, cache):
    """(file, key) of what has to be checked, and how many need not be."""
    todo, known = {}, 0
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if not file.is_relative_to(tree.ROOT):
            continue
        if not file.relative_to(tree.ROOT).as_posix().startswith(TIDY_FOLDERS) or file in todo:
            continue
        key = cache_key(entry, file)
        if (cache / key).exists():
            known += 1
        else:
            todo[file] = key
    recent = recently_changed()
    first = sorted(todo, key=lambda file: str(file.relative_to(tree.ROOT)) not in recent)
    return {file: todo[file] for file in first}, known


def clang_tidy(options):
    build, cache = options.build, options.build / "tidy-cache"
    if not (build / "compile_commands.json").exists():
        return SKIP, f"{build}/compile_commands.json does not exist"
    cache.mkdir(exist_ok=True)
    todo, known = tidy_work(build, cache)
    end = time.monotonic() + options.seconds if options.seconds else float("inf")

    def one(file):
        if time.monotonic() > end:
            return None
        return run("clang-tidy-19", "-p", str(build), "--quiet", str(file))

    texts, unchecked = [], 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, result in zip(todo, pool.map(one, todo)):
            if result is None:
                unchecked += 1
            elif result[0] == 0:
                (cache / todo[file]).touch()
            else:
                texts.append(result[1])
                print(f"    clang-tidy: {file.relative_to(tree.ROOT)}: findings", flush=True)
    print(f"    clang-tidy: {len(todo) - unchecked} checked, {known} unchanged since they passed")
    if texts:
        return FAIL, "\n".join(texts)
    if unchecked:
        return (
            SKIP,
            f"{unchecked} of {len(todo) + known} files not reached in {options.seconds} s",
        )
    return OK, ""


CHECKS = [clang_format, shellcheck, source_rules, clang_tidy]


def main():
    parser = argparse.ArgumentParser(prog="./dev lint")
    parser.add_argument("--build", type=pathlib.Path, default=tree.ROOT / "build")
    parser.add_argument(
        "--seconds", type=int, default=600, help="stop clang-tidy after so many seconds; 0: never"
    )
    parser.add_argument(
        "--record", type=pathlib.Path, help="write results as meson's testlog does"
    )
    parser.add_argument(
        "--quick", action="store_true", help="all but clang-tidy, which takes minutes"
    )
    parser.add_argument(
        "--format", action="store_true", help="format the files in place, no checks"
    )
    options = parser.parse_args()
    if options.format:
        sys.exit(run("clang-format-19", "-i", *map(str, tree.code_files()))[0])
    results = []
    for check in CHECKS[:-1] if options.quick else CHECKS:
        name, started = check.__name__.replace("_", "-"), time.monotonic()
        result, text = check(options)
        print(f"    {name}: {result.lower()} ({time.monotonic() - started:.1f} s)", flush=True)
        if text:
            print(f"skipped: {text}" if result == SKIP else text)
        results.append({"name": name, "result": result, "stdout": f"skipped: {text}"})
    if options.record:
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text("".join(json.dumps(result) + "\n" for result in results))
    sys.exit(1 if any(result["result"] == FAIL for result in results) else 0)


if __name__ == "__main__":
    main()
