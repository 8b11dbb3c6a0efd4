#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ./dev asks of meson's own records: which tests exist, what they need, how they ended."""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def introspect(build, what):
    run = subprocess.run(
        ["meson", "introspect", str(build), what], check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout)


def suites_of(test):
    """meson names a suite "project:suite"; people say only the suite."""
    return {name.split(":")[-1] for name in test["suite"]}


def select(build, words):
    """Turns what a person typed into arguments of `meson test`, one a line."""
    tests = introspect(build, "--tests")
    suites = set().union(*map(suites_of, tests)) if tests else set()
    names = {test["name"] for test in tests}
    arguments = []
    for word in words:
        if word in suites:
            arguments += ["--suite", word]
        elif word in names:
            arguments.append(word)
        else:
            known = " ".join(sorted(suites))
            sys.exit(f'dev: no suite and no test is named "{word}"; the suites are: {known}')
    # meson takes names and suites as "and"; a person means "or".
    if len({argument in names for argument in arguments if argument != "--suite"}) == 2:
        arguments = [
            test["name"]
            for test in tests
            if test["name"] in words or suites_of(test) & set(words)
        ]
    return arguments


def output_of(build, target):
    return str(pathlib.Path(target["filename"][0]).relative_to(pathlib.Path(build).resolve()))


def targets(build, suites):
    """The files that the tests of these suites need, so that nothing else is compiled."""
    needed = set()
    for test in introspect(build, "--tests"):
        if suites_of(test) & set(suites):
            needed.update(test["depends"])
    return [output_of(build, t) for t in introspect(build, "--targets") if t["id"] in needed]


def programs(build):
    """The daemons and command lines: all that the demo needs, without any test."""
    return [
        path
        for target in introspect(build, "--targets")
        if target["type"] == "executable"
        and (path := output_of(build, target)).startswith("programs/")
    ]


def fuzzers(build):
    return [
        output_of(build, target)
        for target in introspect(build, "--targets")
        if target["type"] == "executable" and target["name"].startswith("fuzz-")
    ]


def fuzz(build, words):
    """Runs each fuzzer for a while; keeps inputs that reached new code in tests/fuzz/corpus."""
    parser = argparse.ArgumentParser(prog="./dev fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--runs", type=int, help="stop after so many executions instead")
    options = parser.parse_args(words)
    programs = {pathlib.Path(path).name: pathlib.Path(build, path) for path in fuzzers(build)}
    wanted = [n if n.startswith("fuzz-") else "fuzz-" + n for n in options.names] or list(
        programs
    )
    unknown = [name for name in wanted if name not in programs]
    if unknown:
        print(
            f"dev: no fuzzer is named {unknown[0]}; there are: {' '.join(programs)}",
            file=sys.stderr,
        )
        return 2
    failed = [n for n in wanted if not fuzz_one(build, n, programs[n].resolve(), options)]
    print(f"{len(wanted) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


def fuzz_one(build, name, program, options):
    short = name.removeprefix("fuzz-")
    kept = pathlib.Path("tests/fuzz/corpus", short)
    fresh = pathlib.Path(build, "corpus", short)
    findings = pathlib.Path(build, "findings")
    log = pathlib.Path(build, "logs", f"{name}.log")
    for folder in (kept, fresh, findings):
        folder.mkdir(parents=True, exist_ok=True)
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}"
    print(f"==> {name} {limit} ... ", end="", flush=True)
    limits = [limit, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]
    subprocess.run([program, "--write-seeds", fresh], check=True)
    with open(log, "wb") as output:
        run = subprocess.run(
            [program, *limits, f"-artifact_prefix={findings}/{short}-", fresh, kept],
            stdout=output, stderr=output, check=False,
        )  # fmt: skip
    text = log.read_text(errors="replace")
    if run.returncode != 0:
        print(f"failed\n{text[-4000:]}")
        print(
            f"dev: {name} failed: the log is {log}, the input is in {findings}", file=sys.stderr
        )
        return False
    executions = re.search(r"number_of_executed_units:\s*(\d+)", text)
    before = sum(1 for _ in kept.iterdir())
    with open(log, "ab") as output:
        subprocess.run(
            [program, "-merge=1", "-use_counters=0", kept, fresh],
            stdout=output, stderr=output, check=True,
        )  # fmt: skip
    shutil.rmtree(fresh)
    more = sum(1 for _ in kept.iterdir()) - before
    print(f"{executions.group(1)} executions, {more} new inputs kept in {kept}", flush=True)
    return True


def summary(records):
    """Prints failures and skips by name, then the counts alone on the last line."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for record in map(pathlib.Path, records):
        where = f"{record.parts[0]}/{record.stem}"
        if not record.exists():  # the run died before meson wrote anything
            counts["failed"] += 1
            print(f"failed:  {where}: no record was written ({record})")
            continue
        for line in record.read_text().splitlines():
            result = json.loads(line)
            if result["result"] in PASSED:
                counts["passed"] += 1
                continue
            kind = "skipped" if result["result"] in SKIPPED else "failed"
            counts[kind] += 1
            print(f"{kind + ':':8} {where}: {result['name']}{reason(result)}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


def reason(result):
    """A skipped test says why on a line "skipped: why" or, in GoogleTest, after GTEST_SKIP."""
    for line in result.get("stdout", "").splitlines() + result.get("stderr", "").splitlines():
        if line.startswith("skipped: "):
            return ": " + line.removeprefix("skipped: ")
    return f" ({result['result']})" if result["result"] != "SKIP" else ""


def main():
    verb, *words = sys.argv[1:]
    if verb == "summary":
        sys.exit(summary(words))
    build, *rest = words
    if verb == "fuzz":
        sys.exit(fuzz(build, rest))
    verbs = {"select": select, "targets": targets, "fuzzers": fuzzers, "programs": programs}
    print("\n".join(verbs[verb](build, rest) if rest else verbs[verb](build)))


if __name__ == "__main__":
    main()
