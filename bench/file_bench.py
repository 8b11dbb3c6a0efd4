#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files opened O_DIRECT beside fio's io_uring engine: same file, same depth, same run.

usage: file_bench.py [--build-dir build] [--file FILE] [--size-mib 512] [--rounds 5] [--seconds 1]
                     [--depths 1,32,128] [--nice -20] [--json FILE]

Random 4 KiB reads and writes; both take turns within each round, figures are medians over the
rounds. Exit 0 whatever they are: this measures, it does not judge.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from net_bench import CLIENT_CPU, go_first


def prefix(nice):
    return ["nice", "-n", str(nice), "taskset", "-c", str(CLIENT_CPU)]


def ours(args, op, depth):
    uri = f"file:{args.file}?direct=1"
    command = [args.build_dir / "bench/device_load", "--device", uri, "--op", op,
               "--depth", depth, "--seconds", args.seconds]  # fmt: skip
    done = subprocess.run([*prefix(args.nice), *map(str, command)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fio(args, op, depth):
    command = ["fio", "--name=b", f"--filename={args.file}", "--direct=1", "--ioengine=io_uring",
               f"--rw=rand{op}", "--bs=4k", f"--iodepth={depth}", f"--size={args.size_mib}M",
               "--time_based", f"--runtime={args.seconds * 1000:.0f}ms",
               f"--ramp_time={args.seconds * 250:.0f}ms",
               "--norandommap", "--randrepeat=0", "--output-format=json"]  # fmt: skip
    done = subprocess.run([*prefix(args.nice), *command],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    figures = job[op]
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return {
        "iops": figures["iops"],
        "p50_us": figures["clat_ns"]["percentile"]["50.000000"] / 1e3,
        "p99_us": figures["clat_ns"]["percentile"]["99.000000"] / 1e3,
        "client_cpu_us": cpu * 1e6 / figures["iops"] if figures["iops"] else 0,
    }


def make_file(args):
    """Written, not only reserved: reads of holes never reach a drive."""
    block = os.urandom(1 << 20)
    with open(args.file, "wb") as file:
        for _ in range(args.size_mib):
            file.write(block)
        os.fsync(file.fileno())


def compare(args, results):
    columns = ["iops", "p50_us", "p99_us", "client_cpu_us"]
    print(f"{'path':<38}" + "".join(f"{c:>15}" for c in columns))
    summary = {}
    for op in ("read", "write"):
        for depth in args.depths:
            medians = {}
            for name in ("file:, O_DIRECT", "fio, io_uring, O_DIRECT"):
                runs = results[name, op, depth]
                row = {c: statistics.median(run[c] for run in runs) for c in columns}
                medians[name] = row
                print(f"{f'{op}, depth {depth}, {name}':<38}{row['iops']:>15,.0f}"
                      + "".join(f"{row[c]:>15.2f}" for c in columns[1:]))  # fmt: skip
            pairs = zip(*(results[name, op, depth] for name in medians))
            ratio = statistics.median(a["iops"] / b["iops"] for a, b in pairs)
            print(f"    {ratio:.0%} of fio's IOPS, median of the pairs")
            summary[f"{op} {depth}"] = {**medians, "ratio": ratio}
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default="build")
    parser.add_argument("--file", type=pathlib.Path, default="/var/tmp/bb-file-bench.img")
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--depths", default="1,32,128")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--json")
    args = parser.parse_args()
    args.depths = [int(depth) for depth in args.depths.split(",")]
    if shutil.which("fio") is None:
        print("skipped: there is no fio on this machine")
        return 77
    if args.nice < 0:
        go_first(args.nice)
    results = {}
    try:
        make_file(args)
        for _ in range(args.rounds):
            for op in ("read", "write"):
                for depth in args.depths:
                    for name, run in (("file:, O_DIRECT", ours), ("fio, io_uring, O_DIRECT", fio)):
                        results.setdefault((name, op, depth), []).append(run(args, op, depth))
        summary = compare(args, results)
    finally:
        args.file.unlink(missing_ok=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
