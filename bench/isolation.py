#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""63 of 64 targets dead: what the 64th notices, against being alone, in turns in one run.

usage: isolation.py --build-dir BUILD [--windows 40] [--devices 64] [--limit 1.2]

The 63 belong to a process of their own that is stopped (connections that take everything and never
answer, the reads on their way cut in the middle; new ones are accepted by the kernel, and later not
even that), then killed (connection refused). Exit 1 when a ratio of p99 is above the limit.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time


def serve(build, count):
    command = [build / "programs/bb-serve", "--nvme-tcp", "127.0.0.1:0", "--log-level", "error"]
    for _ in range(count):
        command += ["--device", "mem:8M"]
    process = subprocess.Popen([str(w) for w in command], stdout=subprocess.PIPE, text=True)
    uris = []
    for line in process.stdout:
        words = line.split()
        if words[0] == "export":
            uris.append(f"nvme-tcp://{words[2]}/{words[3]}")
        if words[0] == "ready":
            return process, uris
    raise SystemExit("bb-serve did not start")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build-dir", type=pathlib.Path, required=True)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--limit", type=float, default=1.2)
    options = parser.parse_args()
    alive, alive_uris = serve(options.build_dir, 1)
    dying, dying_uris = serve(options.build_dir, options.devices - 1)
    load = None
    bad = []
    try:
        command = [options.build_dir / "bench/isolation", "--windows", options.windows]
        command += ["--alive", alive_uris[0]]
        for uri in dying_uris:
            command += ["--dead", f"{uri}?queue_depth=8&keep_alive=1s&io_timeout=2s"]
        load = subprocess.Popen([str(w) for w in command], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert load.stdout.readline() == "open\n", "the devices could not be opened"

        def measure(name):
            load.stdin.write("go\n")
            load.stdin.flush()
            result = json.loads(load.stdout.readline())
            alone, among = result["alone"], result["among"]
            ratios = {p: among[p] / alone[p] for p in ("p50_ns", "p99_ns", "p999_ns")}
            print(f"{name:<22} {result['unavailable']:>3} of {options.devices} away;"
                  f" alone p50 {alone['p50_ns'] / 1e3:.1f} p99 {alone['p99_ns'] / 1e3:.1f} us;"
                  f" among p50 {among['p50_ns'] / 1e3:.1f} p99 {among['p99_ns'] / 1e3:.1f} us;"
                  f" ratios p50 {ratios['p50_ns']:.3f} p99 {ratios['p99_ns']:.3f}"
                  f" p99.9 {ratios['p999_ns']:.3f}", flush=True)  # fmt: skip
            if ratios["p99_ns"] > options.limit:
                bad.append(name)

        dying.send_signal(signal.SIGSTOP)
        measure("stopped, just now")
        time.sleep(2)
        measure("stopped, black-holed")
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        time.sleep(1)
        measure("refused")
        load.stdin.write("end\n")
        load.stdin.flush()
        assert load.wait(60) == 0, "the load program failed"
    finally:
        for process in (load, alive, dying):
            if process is not None and process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
    if bad:
        sys.exit(f"p99 above {options.limit} x alone: {', '.join(bad)}")


if __name__ == "__main__":
    main()
