#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All checks of the source text: format, shell, source rules, clang-tidy."""
import argparse
import json
import pathlib
import subprocess
import sys
import time

import tidy
import tree

HERE = pathlib.Path(__file__).resolve().parent
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


def clang_tidy(options):
    if not (options.build / "compile_commands.json").exists():
        return SKIP, f"{options.build}/compile_commands.json does not exist"
    findings, note = tidy.clang_tidy(options.build)
    print(f"    clang-tidy: {note}", flush=True)
    return (FAIL, findings) if findings else (OK, "")


CHECKS = [clang_format, shellcheck, source_rules, clang_tidy]


def main():
    parser = argparse.ArgumentParser(prog="./dev lint")
    parser.add_argument("--build", type=pathlib.Path, default=tree.ROOT / "build")
    parser.add_argument(
        "--record", type=pathlib.Path, help="write results as meson's testlog does"
    )
    parser.add_argument(
        "--format", action="store_true", help="format the files in place, no checks"
    )
    options = parser.parse_args()
    if options.format:
        sys.exit(run("clang-format-19", "-i", *map(str, tree.code_files()))[0])
    results = []
    for check in CHECKS:
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
