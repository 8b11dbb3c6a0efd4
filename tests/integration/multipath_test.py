#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our initiator by two paths to a bb-serve, through proxies that can be cut: verified load.

usage: multipath_test.py BUILD_DIR [--only NAME]
"""
import json
import os
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time

import runner
from daemon import running

OPTIONS = runner.parse(runner.parser(), [])
sys.path.insert(0, str(OPTIONS.build / "bindings" / "python"))
try:
    import blockbridge as bb
except ImportError as problem:
    print(f"skipped: the Python module is not built: {problem}")
    sys.exit(77)

BLOCK = 4096
BLOCKS = 256


class Proxy:
    """One path. `mode`: "pass"; "hole" keeps connections and moves nothing; "refuse" resets."""

    def __init__(self, target):
        self.target, self.mode, self.pairs, self.stopped = target, "pass", {}, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped:
            moving = list(self.pairs) if self.mode == "pass" else []
            for ready in select.select([self.listener, *moving], [], [], 0.01)[0]:
                if ready is self.listener:
                    self._accept()
                elif ready in self.pairs:
                    self._move(ready)
            if self.mode == "refuse":
                for end in list(self.pairs):
                    self._drop(end)

    def _accept(self):
        host, _ = self.listener.accept()
        if self.mode == "refuse":
            host.close()
            return
        name, port = self.target.rsplit(":", 1)
        there = socket.create_connection((name, int(port)))
        for end in (host, there):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pairs[host], self.pairs[there] = there, host

    def _drop(self, end):
        other = self.pairs.pop(end, None)
        self.pairs.pop(other, None)
        for one in (end, other):
            if one is not None:
                one.close()

    def _move(self, end):
        try:
            data = end.recv(1 << 18)
            if data:
                self.pairs[end].sendall(data)
                return
        except OSError:
            pass
        self._drop(end)

    def stop(self):
        self.stopped = True
        self.thread.join()
        for end in list(self.pairs):
            self._drop(end)
        self.listener.close()


class Load(threading.Thread):
    """Writes its own blocks and reads them back; what it reads must be what it wrote last."""

    def __init__(self, device, first):
        super().__init__(daemon=True)
        self.device, self.first, self.stop, self.problem = device, first, False, None
        self.done = 0

    def run(self):
        choice = random.Random(self.first)
        held = {}
        try:
            while not self.stop:
                at = self.first + choice.randrange(BLOCKS)
                if at in held and choice.random() < 0.5:
                    assert self.device.read(at * BLOCK, BLOCK) == held[at], f"block {at} is stale"
                else:
                    held[at] = choice.randbytes(16) * (BLOCK // 16)
                    self.device.write(at * BLOCK, held[at])
                self.done += 1
            for at, data in held.items():
                assert self.device.read(at * BLOCK, BLOCK) == data, f"block {at} is stale"
        except Exception as problem:  # told by whoever started us
            self.problem = problem


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def under_load(single_association, options, faults):
    command = [OPTIONS.build / "programs" / "bb-serve", "--device", "mem:64M"]
    command += ["--nvme-tcp", "127.0.0.1:0", "--nvme-tcp", "127.0.0.1:0", "--log-level", "error"]
    if single_association:
        command.append("--single-association")
    with running(command, ["ready nvme-tcp 127"] * 2) as serve, bb.Runtime() as runtime:
        wanted = serve.last_words("export nvme-tcp ")
        proxies = [Proxy(address) for address, _ in wanted]
        addresses = ",".join(proxy.address for proxy in proxies)
        uri = f"nvme-tcp://{addresses}/{wanted[0][1]}?{options}"
        with runtime.open(uri) as device:
            wait_for("both paths", lambda: all(p["state"] == "live" for p in device.paths))
            loads = [Load(device, i * BLOCKS) for i in range(8)]
            for load in loads:
                load.start()
            for fault in faults:
                fault(device, proxies, loads)
            for load in loads:
                load.stop = True
            for load in loads:
                load.join(60)
                assert not load.is_alive(), "an operation does not end"
                assert load.problem is None, load.problem
            paths = device.paths
        for proxy in proxies:
            proxy.stop()
    done = sum(load.done for load in loads)
    return f"{done} operations; connects {[p['connects'] for p in paths]}"


def goes_on(loads):
    """Every user makes progress."""
    before = [load.done for load in loads]
    wait_for("progress of all", lambda: all(
        load.done > start + 20 or load.problem for load, start in zip(loads, before)))  # fmt: skip


def cut(mode):
    def fault(device, proxies, loads):
        for which in (0, 1):
            time.sleep(0.2)
            proxies[which].mode = mode
            wait_for("the path is lost", lambda w=which: device.paths[w]["state"] != "live")
            assert device.info["ready"], "the device is away though a path is there"
            # Whoever has a write on the lost path waits until its fate is known; others go on.
            wait_for("progress", lambda: sum(l.done for l in loads) > 0)
            proxies[which].mode = "refuse"
            time.sleep(0.05)
            proxies[which].mode = "pass"
            wait_for("the path is back", lambda w=which: device.paths[w]["state"] == "live")
            goes_on(loads)

    return fault


def test_a_reset_path_under_load(_):
    return under_load(True, "keep_alive=1s", [cut("refuse"), cut("refuse")])


def test_a_black_hole_under_load(_):
    return under_load(True, "keep_alive=400ms&policy=latency", [cut("hole")])


def test_a_path_that_stays_away_is_settled_by_time(_):
    def fault(device, proxies, loads):
        time.sleep(0.2)
        proxies[1].mode = "hole"  # until everybody has something on it
        wait_for("commands on the path", lambda: device.paths[1]["in_flight"] >= 4)
        proxies[1].mode = "refuse"
        wait_for("the path is lost", lambda: device.paths[1]["state"] != "live")
        goes_on(loads)  # those with a write on it too, once the fence time has passed
        assert device.paths[1]["state"] != "live"

    return under_load(False, "keep_alive=400ms&fence=2s", [fault])


def test_discovery_names_the_paths(_):
    command = [OPTIONS.build / "programs" / "bb-serve", "--device", "mem:8M"]
    command += ["--nvme-tcp", "127.0.0.1:0", "--nvme-tcp", "127.0.0.1:0"]
    with running(command, ["ready nvme-tcp 127"] * 2) as serve, bb.Runtime() as runtime:
        wanted = serve.last_words("export nvme-tcp ")
        with runtime.open(f"nvme-tcp+discover://{wanted[0][0]}/{wanted[0][1]}") as device:
            wait_for("both paths", lambda: [p["state"] for p in device.paths] == ["live", "live"])
            found = {path["address"] for path in device.paths}
            assert found == {address for address, _ in wanted}, found
            device.write(0, b"d" * BLOCK)
            assert device.read(0, BLOCK) == b"d" * BLOCK
        told = subprocess.run(
            [OPTIONS.build / "programs/bb/bb", "target", "discover", wanted[0][0], "-o", "json"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        rows = json.loads(told.stdout)
        assert [(row["address"], row["nqn"]) for row in rows] == [tuple(w) for w in wanted], rows
        try:
            runtime.open(f"nvme-tcp+discover://{wanted[0][0]}/nqn.2026-11.io.blockbridge:disk:x")
            raise AssertionError("opened what nobody publishes")
        except bb.NotFoundError as refused:
            assert re.search("names no address", refused.text), refused.text


def test_discovery_tells_changes(_):
    with bb.Runtime() as runtime, bb.Runtime() as other, runtime.open("mem:8M") as device:
        with device.export("nvme-tcp", "127.0.0.1:0") as exported:
            seen = []
            address, nqn = re.fullmatch(r"nvme-tcp://([^/]+)/(.*)", exported.uri).groups()
            with bb.Discovery(other, address, seen.append):
                wait_for("the first list", lambda: seen)
                assert seen[0] == [{"nqn": nqn, "address": address, "uri": exported.uri}], seen
        with bb.Discovery(other, address, seen.append):  # nobody is there: it goes on trying
            pass


def test_another_namespace_is_refused(_):
    first = ["--uuid", "6f1d0c2e-4b7a-4f3e-9a55-0d6c1f2b3a49"]
    serve = [OPTIONS.build / "programs" / "bb-serve", "--nvme-tcp", "127.0.0.1:0", *first]
    with running([*serve, "--device", "mem:8M"], ["ready nvme-tcp"]) as one:
        with running([*serve, "--device", "mem:4M"], ["ready nvme-tcp"]) as other:
            addresses = [s.last_words("export nvme-tcp ")[0] for s in (one, other)]
            with bb.Runtime() as runtime:
                uri = f"nvme-tcp://{addresses[0][0]},{addresses[1][0]}/{addresses[0][1]}"
                with runtime.open(uri) as device:
                    wait_for("the other path is refused", lambda: any(
                        "is refused" in path["detail"] for path in device.paths))  # fmt: skip
                    assert device.info["ready"]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    runner.run([value for name, value in list(globals().items()) if name.startswith("test_")],
               OPTIONS)  # fmt: skip
