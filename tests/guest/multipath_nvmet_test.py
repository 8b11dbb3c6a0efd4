#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our initiator by two ports of Linux's nvmet-tcp: ANA states that change, a port that goes.

usage: multipath_nvmet_test.py 6.1|6.12 --build-dir BUILD      (exit 77: something is missing)
"""
import argparse
import pathlib
import sys
import threading
import time

from image import image
from kernels import META_PACKAGES, Unavailable, cache_folder
from machine import GuestError, Machine

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from ports import free_port

BLOCK, BLOCKS, MIB = 4096, 64, 1 << 20
NQN = "nqn.2026-11.io.blockbridge:disk:multipath"
NVMET = "/sys/kernel/config/nvmet"
CHANGES = [
    (1, "inaccessible"),
    (1, "non-optimized"),
    (2, "inaccessible"),
    (2, "persistent-loss"),
    (1, "optimized"),
    (2, "optimized"),
]
SETUP = """modprobe -a nvmet-tcp loop
c=/sys/kernel/config/nvmet
s=$c/subsystems/{nqn}; mkdir $s; echo 1 >$s/attr_allow_any_host
truncate -s {size} /run/disk; d=$(losetup -f); losetup $d /run/disk
mkdir $s/namespaces/1; echo $d >$s/namespaces/1/device_path
echo 1 >$s/namespaces/1/enable
for n in 1 2; do
  p=$c/ports/$n; mkdir $p
  echo tcp >$p/addr_trtype; echo ipv4 >$p/addr_adrfam
  echo 0.0.0.0 >$p/addr_traddr; echo $((4419 + n)) >$p/addr_trsvcid
  ln -s $s $p/subsystems/{nqn}
done
"""


class Load(threading.Thread):
    """Writes and reads back; every value read is the one written last."""

    def __init__(self, device, first):
        super().__init__(daemon=True)
        self.device, self.first, self.stop, self.problem, self.done = device, first, False, None, 0

    def run(self):
        held = {}
        try:
            while not self.stop:
                at = self.first + self.done % BLOCKS
                if at in held:
                    assert self.device.read(at * BLOCK, BLOCK) == held[at], f"block {at} is stale"
                held[at] = self.done.to_bytes(8, "little") * (BLOCK // 8)
                self.device.write(at * BLOCK, held[at])
                self.done += 1
        except Exception as problem:  # told by whoever started us
            self.problem = problem


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class Scenario:
    def __init__(self, guest, device, loads):
        self.guest, self.device, self.loads = guest, device, loads

    def access(self):
        return [path["access"] for path in self.device.paths]

    def set_state(self, port, state):
        self.guest.run(f"echo {state} >{NVMET}/ports/{port}/ana_groups/1/ana_state")

    def goes_on(self):
        before = [load.done for load in self.loads]

        def all_moved():
            moved = [l.problem or l.done > b + 5 for l, b in zip(self.loads, before)]
            return all(moved)

        wait_for("progress of everybody", all_moved)
        for load in self.loads:
            assert load.problem is None, load.problem

    def run(self):
        states = ["optimized", "optimized"]
        wait_for("both paths", lambda: self.access() == states)
        self.goes_on()
        for port, state in CHANGES:
            self.set_state(port, state)
            states[port - 1] = state
            wait_for(f"port {port} {state}", lambda: self.access() == states)
            self.goes_on()
            print(f"  ANA {states}: goes on", flush=True)
        for port in (2, 1):
            link = f"{NVMET}/ports/{port}/subsystems/{NQN}"
            self.guest.run(f"rm {link}")
            wait_for("the path is lost", lambda: self.device.paths[port - 1]["state"] != "live")
            self.goes_on()
            self.guest.run(f"ln -s {NVMET}/subsystems/{NQN} {link}")
            wait_for("it is back", lambda: self.device.paths[port - 1]["state"] == "live")
            self.goes_on()
            print(f"  port {port} taken away and brought back: goes on", flush=True)
        self.guest.run(
            "truncate -s 96M /run/disk; losetup -c /dev/loop0\n"
            f"echo 1 >{NVMET}/subsystems/{NQN}/namespaces/1/revalidate_size"
        )
        wait_for("the new size", lambda: self.device.size == 96 * MIB)
        print("  grown to 96 MiB: seen", flush=True)


def run(options):
    sys.path.insert(0, str(options.build_dir / "bindings" / "python"))
    try:
        import blockbridge as bb
    except ImportError as why:
        raise Unavailable(f"no Python module: {why}") from why
    ports = [free_port(), free_port()]
    booted = image(options.kernel, cache_folder(options.build_dir))
    guest = Machine(*booted, forward=[(ports[0], 4420), (ports[1], 4421)], processors=1)
    try:
        guest.run(SETUP.format(nqn=NQN, size=64 * MIB))
        uri = f"nvme-tcp://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/{NQN}"
        with bb.Runtime() as runtime:
            with runtime.open(f"{uri}?keep_alive=1s&fence=2s&io_timeout=60s") as device:
                loads = [Load(device, n * BLOCKS) for n in range(4)]
                for load in loads:
                    load.start()
                try:
                    Scenario(guest, device, loads).run()
                finally:
                    for load in loads:
                        load.stop = True
                    for load in loads:
                        load.join(90)
                print(f"  {sum(load.done for load in loads)} verified writes", flush=True)
    finally:
        guest.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel", choices=META_PACKAGES)
    parser.add_argument("--build-dir", type=pathlib.Path, default=pathlib.Path("build"))
    options = parser.parse_args()
    started = time.monotonic()
    try:
        run(options)
    except Unavailable as why:
        print(f"skipped: {why}")
        sys.exit(77)
    except (AssertionError, GuestError) as fault:
        print(f"FAILED: {fault}")
        sys.exit(1)
    print(f"passed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
