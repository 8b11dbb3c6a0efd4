#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Mixed and verified load on our targets by our initiators, and all that may happen to both.

usage: io_soak.py BUILD_DIR [--seconds 15] [--seed N] [--iops-max 300] [--calm] [--extra-fault F]

Two bb-serve (one in the clear, with two addresses; one with TLS, secrets and NBD) and io_load are
processes of their own. Judged at the end: every block read was one that may be there, nothing
failed but by what was done to it, no sanitizer spoke, all ended in order, the targets gave back
their descriptors, and, from ten minutes on, nothing grew after the first quarter. --extra-fault
gives the file an option of fault:, such as lost_write=1/100: the run is good if that is found.
"""
import argparse
import base64
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import zlib

from disturbances import KEEP_ALIVE, Disturbances
from processes import Process
from proxy import Proxy

HOST = "nqn.2026-11.io.blockbridge:host:soak"
# What allocators and a full quarantine may still move by: a tenth, and this.
GROWTH_MIB = 16
GROWTH_SECONDS = 600  # in a shorter run a quarter is not enough to come to rest


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iops-max", type=int, default=300)
    parser.add_argument("--calm", action="store_true", help="nothing happens to the connections")
    parser.add_argument("--extra-fault", default="")
    options = parser.parse_args()
    options.build = options.build.resolve()
    return options


def keep_secret(folder, name, prefix):
    """DHHC-1 and NVMeTLSkey-1: the key and its CRC-32 in base64."""
    key = os.urandom(32)
    text = base64.b64encode(key + zlib.crc32(key).to_bytes(4, "little")).decode()
    path = pathlib.Path(folder, name)
    path.touch(0o600)
    path.write_text(f"{prefix}{text}:\n")
    return path


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder, self.samples = options, folder, []
        self.processes, self.proxies, self.disturbances = [], [], None
        self.control = f"{folder}/control"
        self.file_uri = f"file:{folder}/image?size=32M&create=1&lock=0"
        if options.extra_fault:
            name = self.file_uri.replace("?", "%3F")
            self.file_uri = f"fault:{name}?{options.extra_fault}"

    def start(self, name, *command):
        process = Process(name, command, self.folder)
        self.processes.append(process)
        return process

    def serve(self, name, devices, *more):
        command = [self.options.build / "programs/bb-serve", "--log-level", "error", *more]
        for device in devices:
            command += ["--device", device]
        process = self.start(name, *command)
        ready = sum(word in ("--nvme-tcp", "--nbd") for word in more)
        process.wait_for("ready line", lambda lines: ready == sum(
            line.startswith("ready n") for line in lines))  # fmt: skip
        exports = [line.split()[1:] for line in process.lines if line.startswith("export")]
        return process, exports

    def serve_open(self):
        faults = "read_error=1/300&write_error=1/300&flush_error=1/100&torn_write=1/300"
        slow = f"latency=3s&latency_chance=1/200&seed={self.options.seed}"
        devices = ["mem:48M", self.file_uri,
                   f"fault:mem:32M?{faults}&seed={self.options.seed}",
                   f"fault:mem:4M%3Fblock_size=4096?{slow}", "mem:1M"]  # fmt: skip
        groups = [word for group in "12341" for word in ("--ana-group", group)]
        return self.serve("open", devices, "--one-subsystem", "--single-association", *groups,
                          "--nvme-tcp", "127.0.0.1:0", "--nvme-tcp", "127.0.0.1:0",
                          "--control", "unix:" + self.control)  # fmt: skip

    def serve_secret(self):
        host, target = (keep_secret(self.folder, name, "DHHC-1:00:") for name in ("host", "target"))
        key = keep_secret(self.folder, "psk", "NVMeTLSkey-1:01:")
        devices = ["mem:32M", f"file:{self.folder}/second?size=32M&create=1",
                   "fault:mem:16M?read_error=1/200&write_error=1/200&latency=50ms"
                   f"&latency_chance=1/50&seed={self.options.seed}"]  # fmt: skip
        process, exports = self.serve(
            "secret", devices, "--tls", "required", "--host-psk", f"{HOST}={key}",
            "--host-secret", f"{HOST}={host}", "--ctrl-secret", target, "--single-association",
            "--nvme-tcp", "127.0.0.1:0", "--nbd", "127.0.0.1:0", "--nbd-exclusive")  # fmt: skip
        secrets = (f"hostnqn={HOST}&tls=1&tls_psk_file={key}&dhchap_secret_file={host}"
                   f"&dhchap_ctrl_secret_file={target}")  # fmt: skip
        return process, exports, secrets

    def start_all(self):
        opened, open_exports = self.serve_open()
        secret, secret_exports, secrets = self.serve_secret()
        self.targets = [opened, secret]
        addresses = [address for _, address, _ in open_exports]
        nqn = open_exports[0][2]
        _, tls_address, tls_nqn = secret_exports[0]
        nbd_address = next(address for kind, address, _ in secret_exports if kind == "nbd")
        real = [*addresses, tls_address, nbd_address]
        self.idle = [target.descriptors() for target in self.targets]
        self.proxies = [Proxy(address) for address in real]
        a, b, tls, nbd = (proxy.address for proxy in self.proxies)
        common = f"keep_alive={KEEP_ALIVE:g}s&io_timeout=6s&connect_timeout=2s"
        self.load = self.start(
            "load", self.options.build / "tests/soak/io_load", "--seed", self.options.seed,
            "--iops-max", self.options.iops_max,
            "--device", f"32,nvme-tcp://{a},{b}/{nqn}?nsid=1&queues=2&wait=3s&{common}",
            "--device", f"8,nvme-tcp://{a}/{nqn}?nsid=2&digest=off&{common}",
            "--device", f"16,errors,nvme-tcp://{b},{a}/{nqn}?nsid=3&digest=header&{common}"
            "&policy=latency",
            "--device", f"1,nvme-tcp://{b}/{nqn}?nsid=4&digest=data&keep_alive={KEEP_ALIVE:g}s"
            "&io_timeout=1s",
            "--device", f"8,nvme-tcp://{tls}/{tls_nqn}?{secrets}&{common}",
            "--device", f"16,nbd://{nbd}/disk1?io_timeout=6s",
            "--device", f"4,errors,nbd://{nbd}/disk2?io_timeout=6s&wait=1s",
            "--visit", f"nvme-tcp+discover://{a},{b}/{nqn}?nsid=2",
            "--visit", f"nvme-tcp://{tls}/{tls_nqn}?{secrets}",
            "--visit", f"nbd://{nbd_address}/disk1")  # fmt: skip
        self.load.wait_for("whole content", lambda lines: lines, 600)
        ports = [int(address.rsplit(":", 1)[1]) for address in real]
        self.disturbances = Disturbances(self.proxies, ports, self.control, nqn, 5, self.file_uri,
                                         self.options.seed)  # fmt: skip

    def progress(self, since):
        self.samples.append([process.resident_mib() for process in self.processes])
        told = json.loads(self.load.lines[-1])
        print(f"{since:6.0f} s  {told['ios']} I/Os, {told['bytes'] >> 20} MiB, "
              f"{told['visits']} visits, {told['reconnects']} reconnects; failed as they may: "
              f"{told['failed']}; resident MiB "
              + ", ".join(f"{p.name} {mib:.0f}" for p, mib in zip(self.processes, self.samples[-1]))
              + f"; descriptors {[t.descriptors() for t in self.targets]}", flush=True)  # fmt: skip

    def run(self):
        self.start_all()
        started = time.monotonic()
        told = since = 0
        while since < self.options.seconds:
            if since >= told:
                self.progress(since)
                told += 30
            if not self.options.calm:
                self.disturbances.one()
            time.sleep(self.disturbances.random.uniform(0.5, 4))
            for process in self.processes:
                assert process.alive(), f"{process.name}: {process.errors.read_text()[-20000:]}"
            since = time.monotonic() - started
        self.progress(since)
        self.finish()

    def finish(self):
        print(f"what happened: {self.disturbances.done}", flush=True)
        self.load.stop(300)
        for proxy in self.proxies:
            proxy.stop()
        for target, idle in zip(self.targets, self.idle):
            end = time.monotonic() + 60
            while target.descriptors() != idle:
                assert time.monotonic() < end, (
                    f"{target.name}: {target.descriptors()} descriptors, and {idle} when idle")
                time.sleep(0.1)  # fmt: skip
        for target in self.targets:
            target.stop(60)
        if self.options.seconds >= GROWTH_SECONDS:
            self.check_growth()

    def check_growth(self):
        quarter = len(self.samples) // 4
        for index, process in enumerate(self.processes):
            sizes = [sample[index] for sample in self.samples]
            early, late = max(sizes[: quarter + 1]), max(sizes[-quarter:])
            assert late <= early * 1.1 + GROWTH_MIB, f"{process.name} grew: {sizes}"
            print(f"{process.name}: {early:.0f} MiB in the first quarter, {late:.0f} in the last")

    def last(self):
        return ", ".join(self.disturbances.last) if self.disturbances else "nothing"

    def kill(self):
        for process in self.processes:
            process.kill()


def stop_at_once(*_):
    """Whoever runs out of patience with us must not be left with our processes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("FAIL: told to stop")


def main():
    options = arguments()
    folder = tempfile.mkdtemp(prefix="bb-soak.")
    soak = Soak(options, folder)
    signal.signal(signal.SIGTERM, stop_at_once)
    try:
        soak.run()
        found = None
    except AssertionError as problem:
        found = str(problem)
        print(f"{found}\nwhat happened last: {soak.last()}", flush=True)
    finally:
        soak.kill()
        shutil.rmtree(folder, ignore_errors=True)
    good = found is None
    if options.extra_fault:
        good = found is not None and "holds generation" in found
    print("ok" if good else f"FAIL seed {options.seed}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
