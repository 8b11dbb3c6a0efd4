# SPDX-License-Identifier: Apache-2.0
"""Runs the test functions of a file, all of them, each in a folder of its own."""
import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time


def parser():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("build", type=pathlib.Path)
    arguments.add_argument("--only", help="run the tests whose name contains this")
    return arguments


def parse(arguments, tools):
    options = arguments.parse_args()
    options.build = options.build.resolve()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        print(f"skipped: missing {' '.join(missing)}")
        sys.exit(77)
    return options


def run(tests, options):
    failed = 0
    for test in tests:
        if options.only and options.only not in test.__name__:
            continue
        folder = tempfile.mkdtemp(prefix="bb-test.")
        started = time.monotonic()
        try:
            said = test(folder)
            print(f"ok   {test.__name__} ({time.monotonic() - started:.1f} s) {said or ''}",
                  flush=True)  # fmt: skip
        except Exception as problem:  # every test runs, whatever became of the others
            failed += 1
            print(f"FAIL {test.__name__}: {type(problem).__name__}: {problem}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)
