#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our network paths beside others', in one run: random reads and writes of memory.

usage: net_bench.py [--build-dir build] [--rounds 5] [--seconds 0.5] [--depths 1,32,128]
                    [--only nbd,nvme,large] [--nice -20] [--json FILE]

nbd, nvme: 4 KiB; large: 128 KiB over NVMe/TCP. The ceiling is what bare sockets do with the same
bytes and no protocol, batched: asleep until something comes, asking for it without a pause, and
asking while each block comes from a random place of as much memory as ours has, or goes there.
Server on core 0, client on core 1, all pairs take turns within each round; figures are medians over
the rounds. Exit 0 whatever they are: this measures, it does not judge.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

UUID = "11111111-1111-4111-8111-111111111111"
NQN = f"nqn.2026-11.io.blockbridge:disk:{UUID}"
SIZE = 1 << 30
SERVER_CPU, CLIENT_CPU = 0, 1

BLOCK, LARGE = 4096, 128 * 1024


def wire_bytes(op, digest, block):
    """Bytes of one NVMe/TCP operation to the target and back. A read's data carries the success
    flag, so that no response follows; what is too large for a capsule is asked for with an R2T."""
    each = 4 if digest == "on" else 0
    sqe, cqe, r2t, data = 72 + each, 24 + each, 24 + each, 24 + each + block + each
    if op == "read":
        return sqe, data
    return (sqe + block + each, cqe) if block <= 8192 else (sqe + data, r2t + cqe)


RAW_KINDS = {  # how the bare sockets wait, and whether they serve memory
    "sleeping": [],
    "spinning": ["--spin"],
    "spinning, memory": ["--spin", "--memory", SIZE],
}


def raw_name(op, digest, block, kind):
    return f"raw sockets, {op}s of {block // 1024} KiB, digests {digest}, {kind}"


def nvme_name(digest, block):
    return f"nvme-tcp, {block // 1024} KiB, digests {digest}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}")


class Server:
    """A daemon on its core; `port` from what it prints, or given."""

    def __init__(self, name, command, nice, pattern=None, port=None):
        self.name = name
        prefix = ["nice", "-n", str(nice), "taskset", "-c", str(SERVER_CPU)]
        self.process = subprocess.Popen(
            [*prefix, *map(str, command)],
            stdout=subprocess.PIPE if pattern else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ports = [port]
        if pattern:
            self.ports = []
            while len(self.ports) < pattern.count("|") + 1:
                line = self.process.stdout.readline()
                assert line, f"{name} ended"
                self.ports += [int(p) for p in re.findall(rf"^ready (?:{pattern}) .*:(\d+)$", line)]
        else:
            wait_for(port)

    def cpu_ns(self):
        """User and system time, with that of threads that have ended; steps of a clock tick."""
        words = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) * 10**9 // os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(server, client, nice):
    """One line of JSON of a client, and the server's CPU time for each of its operations."""
    before = server.cpu_ns()
    prefix = ["nice", "-n", str(nice), "taskset", "-c", str(CLIENT_CPU)]
    done = subprocess.run(
        [*prefix, *map(str, client)], capture_output=True, text=True, timeout=60, check=False
    )
    assert server.process.poll() is None, f"{server.name} ended by itself"
    assert done.returncode == 0, f"{client}: {done.stderr}"
    figures = json.loads(done.stdout.replace("inf", "0"))
    figures["server_cpu_us"] = (server.cpu_ns() - before) / 1e3 / figures["total"]
    return figures


class Raw:
    """The ceiling of one kind of operation: a server of its own and the client for it."""

    def __init__(self, build, op, digest, block, kind, args):
        self.op = op
        sizes = wire_bytes(op, digest, block)
        common = ["--request", sizes[0], "--answer", sizes[1], "--block", block, *RAW_KINDS[kind]]
        program = build / "bench/raw_ceiling"
        self.server = Server("raw", [program, "serve", *common], args.nice, pattern="raw")
        self.load = [program, "load", *common, "--port", self.server.ports[0],
                     "--seconds", args.seconds]  # fmt: skip

    def command(self, op, depth):
        return [*self.load, "--depth", depth] if op == self.op else None


def start(args, build):
    """name -> (server, function of (op, depth) giving the client's command or None)."""
    pairs, servers = {}, []
    seconds = ["--seconds", args.seconds]

    def add(name, server, command):
        pairs[name] = (server, command)

    serve = [build / "programs/bb-serve", "--device", f"mem:{SIZE}?huge_pages=1", "--uuid", UUID]
    ours = Server("bb-serve", [*serve, "--nbd", "127.0.0.1:0", "--nvme-tcp", "127.0.0.1:0"],
                  args.nice, pattern="nbd|nvme-tcp")  # fmt: skip
    servers.append(ours)
    # It prints NVMe/TCP first.
    nvme_port, nbd_port = ours.ports

    def nbd(port, name):
        return lambda op, depth: [build / "bench/nbd_load", "--port", port, "--name", name,
                                  "--op", op, "--depth", depth, *seconds]  # fmt: skip

    def nvme(port, digest, block, engine="io_uring"):
        uri = f"nvme-tcp://127.0.0.1:{port}/{NQN}?digest={digest}"
        return lambda op, depth: [build / "bench/device_load", "--device", uri, "--op", op,
                                  "--block-bytes", block, "--depth", depth, "--engine", engine,
                                  *seconds]  # fmt: skip

    other = Server("bb-serve, epoll", [*serve, "--nvme-tcp", "127.0.0.1:0", "--engine", "epoll"],
                   args.nice, pattern="nvme-tcp")  # fmt: skip
    servers.append(other)
    for kind, block in (("nvme", BLOCK), ("large", LARGE)):
        if kind not in args.only:
            continue
        for digest in ("on", "off"):
            add(nvme_name(digest, block), ours, nvme(nvme_port, digest, block))
            add(epoll_name(digest, block), other,
                nvme(other.ports[0], digest, block, "epoll"))
            for op in ("read", "write"):
                for kind in RAW_KINDS:
                    raw = Raw(build, op, digest, block, kind, args)
                    servers.append(raw.server)
                    add(raw_name(op, digest, block, kind), raw.server, raw.command)
    if "nbd" in args.only:
        add("nbd, bb-serve", ours, nbd(nbd_port, "disk"))
        if shutil.which("nbdkit"):
            port = free_port()
            kit = Server("nbdkit", ["nbdkit", "-f", "-i", "127.0.0.1", "-p", port, "memory", SIZE],
                         args.nice, port=port)  # fmt: skip
            servers.append(kit)
            add("nbd, nbdkit memory", kit, nbd(port, ""))
        if shutil.which("qemu-storage-daemon"):
            # null-co keeps no data, which favours it: no copy and no file below.
            port = free_port()
            block = f"driver=null-co,node-name=d,size={SIZE},read-zeroes=on"
            at = f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"
            qemu = Server("qemu", ["qemu-storage-daemon", "--blockdev", block, "--nbd-server", at,
                                   "--export", "type=nbd,id=e,node-name=d,name=disk,writable=on"],
                          args.nice, port=port)  # fmt: skip
            servers.append(qemu)
            add("nbd, qemu-storage-daemon null-co", qemu, nbd(port, "disk"))
    return pairs, servers


def epoll_name(digest, block):
    return f"{nvme_name(digest, block)}, epoll"


def print_share(medians, op, digest, block):
    ours = medians.get(nvme_name(digest, block))
    if ours is None:
        return
    shares = []
    for kind in RAW_KINDS:
        raw = medians[raw_name(op, digest, block, kind)]
        iops, p50 = ours["iops"] / raw["iops"], ours["p50_us"] / raw["p50_us"]
        shares.append(f"{iops:.0%} of the IOPS, {p50:.2f} x the p50 of {kind} sockets")
    print(f"{nvme_name(digest, block)}: {'; '.join(shares)}")
    share = medians[epoll_name(digest, block)]["iops"] / ours["iops"]
    print(f"{epoll_name(digest, block)}, at both ends: {share:.0%} of io_uring's IOPS")


def table(results, op, depth):
    columns = ["iops", "p50_us", "p99_us", "server_cpu_us", "client_cpu_us"]
    print(f"\n== {op}, queue depth {depth}")
    print(f"{'path':<66}" + "".join(f"{c:>15}" for c in columns))
    medians = {}
    for (name, o, d), runs in results.items():
        if (o, d) != (op, depth):
            continue
        medians[name] = {c: statistics.median(run[c] for run in runs) for c in columns}
        row = medians[name]
        print(f"{name:<66}{row['iops']:>15,.0f}"
              + "".join(f"{row[c]:>15.2f}" for c in columns[1:]))  # fmt: skip
    for block in (BLOCK, LARGE):
        for digest in ("on", "off"):
            print_share(medians, op, digest, block)
    for peer in ("nbd, nbdkit memory", "nbd, qemu-storage-daemon null-co"):
        if peer in medians and "nbd, bb-serve" in medians:
            ratio = medians["nbd, bb-serve"]["iops"] / medians[peer]["iops"]
            cpu = medians[peer]["server_cpu_us"] / medians["nbd, bb-serve"]["server_cpu_us"]
            print(f"nbd beside {peer[5:]}: {ratio:.2f} x IOPS, {cpu:.2f} x I/Os per CPU second")
    return medians


def idle(servers, seconds=10):
    before = {server.name: server.cpu_ns() for server in servers if server.name != "raw"}
    time.sleep(seconds)
    print(f"\n== idle for {seconds} s")
    report = {}
    for server in servers:
        if server.name in before:
            share = (server.cpu_ns() - before[server.name]) / (seconds * 1e9)
            report[server.name] = {"cpu_percent": share * 100, "rss_bytes": server.rss_bytes()}
            print(f"{server.name:<20}{share:>8.3%} of a core{server.rss_bytes() / 2**20:>9.1f} MiB")
    return report


def go_first(nice):
    """On a machine that does other things too: niceness counts within a session only, so ours
    gets its own, which is put before the others."""
    child = os.fork()
    if child != 0:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setsid()
    group = pathlib.Path("/proc/self/autogroup")
    if group.exists():
        group.write_text(str(nice), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build-dir", default="build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--depths", default="1,32,128")
    parser.add_argument("--only", default="nbd,nvme,large")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--json")
    args = parser.parse_args()
    if os.cpu_count() < 2:
        print("skipped: one core for the server and one for the client are needed")
        return 77
    if args.nice < 0:
        go_first(args.nice)
    build = pathlib.Path(args.build_dir).resolve()
    pairs, servers = start(args, build)
    depths = [int(d) for d in args.depths.split(",")]
    results = {}
    try:
        resting = idle(servers)
        for _ in range(args.rounds):
            for op in ("read", "write"):
                for depth in depths:
                    for name, (server, command) in pairs.items():
                        client = command(op, depth)
                        if client is not None:
                            run = measure(server, client, args.nice)
                            results.setdefault((name, op, depth), []).append(run)
        load = os.getloadavg()[0]
        print(f"\n{args.rounds} rounds of {args.seconds} s, medians; load average now {load:.1f}")
        summary = {"idle": resting}
        for op in ("read", "write"):
            for depth in depths:
                summary[f"{op} {depth}"] = table(results, op, depth)
    finally:
        for server in servers:
            server.stop()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
