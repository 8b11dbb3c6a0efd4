#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a healthy host and the target's memory feel of hosts that mean harm, in one run.

usage: attack_bench.py [--build-dir build] [--rounds 5] [--seconds 0.5] [--half-open 10000]
                       [--slow-readers 900] [--nice -20] [--json FILE]

half-open: connections that say nothing; greeted: that stop after the first PDU; slow readers:
hosts with full queues of the largest reads who never read an answer; greedy writers: full queues
of the largest writes whose data never comes. Each attack stands while the healthy host's IOPS
(4 KiB reads, queue depth 32) are taken beside those without it, in turns. Exit 0: this measures,
it does not judge.
"""
import argparse
import contextlib
import json
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import time

from net_bench import CLIENT_CPU, NQN, SIZE, UUID, Server, go_first
from nvme_peer import IC_REQUEST, Host, read_capsule, write_capsule

BLOCKS = 2048  # of 512 bytes: 1 MiB, the largest transfer
QUEUES = 15


def healthy(args, port):
    uri = f"nvme-tcp://127.0.0.1:{port}/{NQN}"
    command = ["nice", "-n", str(args.nice), "taskset", "-c", str(CLIENT_CPU),
               args.build_dir / "bench/device_load", "--device", uri, "--depth", "32",
               "--seconds", str(args.seconds)]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the healthy host: {done.stderr[-500:]}"
    return json.loads(done.stdout)


class Silent:
    """Connections that say nothing, or greet and then say nothing; made anew when cut off."""

    def __init__(self, port, count, greeting=b""):
        self.port, self.count, self.greeting = port, count, greeting
        self.sockets = []
        self.refill()

    def refill(self):
        alive = []
        for one in self.sockets:
            try:
                if one.recv(4096, socket.MSG_DONTWAIT):
                    alive.append(one)
                    continue
            except BlockingIOError:
                alive.append(one)
                continue
            except OSError:
                pass
            one.close()
        self.sockets = alive
        while len(self.sockets) < self.count:
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self.port))
            if self.greeting:
                with contextlib.suppress(OSError):
                    one.send(self.greeting)
            self.sockets.append(one)

    def close(self):
        for one in self.sockets:
            one.close()


class Hungry:
    """Hosts with `capsules` outstanding on each queue who never take what comes."""

    def __init__(self, port, count, make):
        self.hosts, self.queues = [], 0
        while self.queues < count:
            try:
                host = Host(port, NQN, len(self.hosts), min(QUEUES, count - self.queues),
                            receive_buffer=4096)  # fmt: skip
            except OSError as refusal:
                print(f"  {self.queues} queues stand, then: {refusal}")
                break
            self.hosts.append(host)
            self.queues += len(host.queues)
        for host in self.hosts:
            for peer in host.queues:
                peer.socket.setblocking(False)
                with contextlib.suppress(OSError):
                    peer.socket.send(b"".join(make(n) for n in range(120)))

    def refill(self):
        pass

    def close(self):
        for host in self.hosts:
            for peer in [host.admin, *host.queues]:
                peer.socket.close()


def attacks(args):
    return {
        f"{args.half_open} half-open": lambda port: Silent(port, args.half_open),
        f"{args.half_open} greeted": lambda port: Silent(port, args.half_open, IC_REQUEST),
        f"{args.slow_readers} slow readers": lambda port: Hungry(
            port, args.slow_readers, lambda n: read_capsule(n, n * BLOCKS, BLOCKS)),
        f"{args.slow_readers} greedy writers": lambda port: Hungry(
            port, args.slow_readers, lambda n: write_capsule(n, n * BLOCKS, BLOCKS)),
    }  # fmt: skip


def run(args, name, attack):
    server = Server("bb-serve", [args.build_dir / "programs/bb-serve", "--device", f"mem:{SIZE}",
                                 "--uuid", UUID, "--nvme-tcp", "127.0.0.1:0"],
                    args.nice, pattern="nvme-tcp")  # fmt: skip
    port = server.ports[0]
    before = server.rss_bytes()
    alone, under, most = [], [], 0
    try:
        for _ in range(args.rounds):
            alone.append(healthy(args, port))
            standing = attack(port)
            time.sleep(0.5)
            standing.refill()
            under.append(healthy(args, port))
            most = max(most, server.rss_bytes())
            standing.close()
            time.sleep(0.5)
    finally:
        server.stop()
    share = statistics.median(b["iops"] / a["iops"] for a, b in zip(alone, under))
    p99 = statistics.median(b["p99_us"] / a["p99_us"] for a, b in zip(alone, under))
    figures = {"share": share, "p99_ratio": p99, "rss_before_bytes": before, "rss_most_bytes": most}
    print(f"{name:<24}{share:>10.0%} of the IOPS{p99:>8.2f} x p99{most / 2**20:>9.0f} MiB at most, "
          f"{before / 2**20:.0f} MiB before")  # fmt: skip
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default="build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--half-open", type=int, default=10_000)
    parser.add_argument("--slow-readers", type=int, default=900)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.nice < 0:
        go_first(args.nice)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = args.half_open + 1000
    if hard < needed:
        print(f"skipped: {needed} descriptors are needed, {hard} are allowed")
        return 77
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = {}
    for name, attack in attacks(args).items():
        if args.only in name:
            results[name] = run(args, name, attack)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
