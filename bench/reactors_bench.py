#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two disks served by one reactor and by two, in turns in one run: 4 KiB reads of memory.

usage: reactors_bench.py [--build-dir build] [--rounds 7] [--seconds 1] [--depths 32,128]
                         [--digests on,off] [--json FILE]

The host (bench/canned_host) has its reads encoded before and drops what comes back inside the
kernel, so that on a machine of two cores the target is what limits; what the host takes of the two
cores is printed beside it. The target's CPU time for each I/O says the rest: where it stays the
same with two, nothing is shared, and what is missing of a factor of two is the host's. Exit 0
whatever the figures are: this measures, it does not judge.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

SIZE = "64M"


class Target:
    def __init__(self, build, reactors, disks):
        command = [build / "programs/bb-serve", "--nvme-tcp", "127.0.0.1:0", "--log-level", "error",
                   "--reactors", reactors]  # fmt: skip
        for _ in range(disks):
            command += ["--device", f"mem:{SIZE}?huge_pages=1"]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        text=True)  # fmt: skip
        self.disks = []
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "export":
                self.disks.append(f"{words[2]}/{words[3]}")
            if words[0] == "ready":
                return
        raise SystemExit("bb-serve did not start")

    def cpu_seconds(self):
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(options, target, depth, digests):
    command = [options.build_dir / "bench/canned_host", "--depth", depth, "--seconds",
               options.seconds, "--digests", int(digests == "on")]  # fmt: skip
    for disk in target.disks:
        command += ["--device", disk]
    before = target.cpu_seconds()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=True)  # fmt: skip
    result = json.loads(done.stdout)
    result["target_cpu_us"] = (target.cpu_seconds() - before) * 1e6 / result["total"]
    result["host_share"] = result["iops"] * result["client_cpu_us"] / 1e6
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build-dir", type=pathlib.Path, default="build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--depths", default="32,128")
    parser.add_argument("--digests", default="on,off")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    targets = {count: Target(options.build_dir, count, 2) for count in (1, 2)}
    rows = []
    print("4 KiB reads, 2 disks     1 reactor                      2 reactors                ratio")
    try:
        for digests in options.digests.split(","):
            for depth in map(int, options.depths.split(",")):
                runs = {1: [], 2: []}
                for _ in range(options.rounds):
                    for count, target in targets.items():
                        runs[count].append(measure(options, target, depth, digests))
                median = {
                    count: {key: statistics.median(run[key] for run in all_runs)
                            for key in all_runs[0]}
                    for count, all_runs in runs.items()
                }  # fmt: skip
                ratio = statistics.median(
                    two["iops"] / one["iops"] for one, two in zip(runs[1], runs[2])
                )
                text = f"digests {digests:3} depth 2x{depth:3} "
                for count in (1, 2):
                    one = median[count]
                    text += (f"  {one['iops'] / 1000:6.0f} k  {one['target_cpu_us']:.2f} us, host "
                             f"{one['host_share']:.2f} cores")  # fmt: skip
                print(f"{text}  {ratio:.2f}", flush=True)
                rows.append({"digests": digests, "depth": depth, "ratio": ratio, "runs": median})
    finally:
        for target in targets.values():
            target.process.terminate()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
