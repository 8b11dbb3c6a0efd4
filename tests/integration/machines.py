# SPDX-License-Identifier: Apache-2.0
"""Disk nodes and dataplanes of a test: configurations, processes, calls to them."""
import contextlib
import json
import pathlib
import socket
import sys
import time

from daemon import Daemon

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from ports import free_port

MIB = 1 << 20


class RpcError(Exception):
    def __init__(self, error):
        data = error.get("data", {})
        self.code, self.text = data.get("code"), data.get("text", error.get("message"))
        super().__init__(f"{self.text} [{self.code}]")


def call(address, method, seconds=60, **params):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as link:
        link.settimeout(seconds)
        link.connect(address)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        link.sendall((json.dumps(message) + "\n").encode())
        answer = json.loads(link.makefile().readline())
    if "error" in answer:
        raise RpcError(answer["error"])
    return answer["result"]


def start_daemon(command, ready):
    """Of a process killed a moment ago the kernel may still be closing the ring and its sockets."""
    end = time.monotonic() + 30
    while True:
        try:
            return Daemon(command, ready)
        except AssertionError as error:
            if "Address already in use" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.1)


def wait_for(what, seconds=30):
    """The first true value of what(); what it last was, when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what.__name__}"
        time.sleep(0.05)


class Node:
    def __init__(self, build, folder, name, drives=2, size=64 * MIB, paths=None):
        self.name = name
        self.program = build / "programs/bb-disknode"
        self.control = ("127.0.0.1", free_port())
        self.nvme = free_port()
        paths = paths or [f"{folder}/{name}-{slot}.img" for slot in range(drives)]
        self.config = pathlib.Path(folder, f"{name}.yaml")
        lines = "".join(
            f'  - {{path: "{path}", slot: "{slot}"' + (f", create: {size}}}\n" if size else "}\n")
            for slot, path in enumerate(paths)
        )
        self.config.write_text(
            f"name: {name}\nlisten: 127.0.0.1:{self.nvme}\n"
            f"control: 127.0.0.1:{self.control[1]}\ndrives:\n{lines}"
        )
        self.daemon = None

    def start(self):
        self.daemon = start_daemon([self.program, "--config", self.config], ["ready disknode"])

    def kill(self):
        self.daemon.kill()
        self.daemon = None

    def stop(self):
        if self.daemon is not None:
            self.daemon.stop()
        self.daemon = None

    def call(self, method, **params):
        return call(self.control, method, **params)


class Dataplane:
    def __init__(self, build, folder, name, nodes):
        self.program = build / "programs/bb-dataplane"
        self.socket = f"{folder}/{name}.sock"
        self.nbd = f"{folder}/{name}-nbd.sock"
        self.config = pathlib.Path(folder, f"{name}.yaml")
        backplanes = "".join(
            f"  - {{name: {node.name}, control: 127.0.0.1:{node.control[1]}}}\n" for node in nodes
        )
        self.config.write_text(
            f"name: {name}\nstore: file:{folder}/{name}.db\ncontrol: unix:{self.socket}\n"
            f"nvme_tcp: 127.0.0.1:{free_port()}\nnbd: unix:{self.nbd}\nbackplanes:\n{backplanes}"
        )
        self.daemon = None

    kill = Node.kill
    stop = Node.stop

    def start(self):
        self.daemon = start_daemon([self.program, "--config", self.config], ["ready dataplane"])

    def call(self, method, **params):
        return call(self.socket, method, **params)

    def info(self, name="db"):
        return self.call("array.info", name=name)

    def uri(self, name="db"):
        return f"nbd+unix:///{name}?socket={self.nbd}"


def in_sync(info):
    return sum(member["state"] == "in-sync" for member in info["members"])


def drive_states(plane):
    return sorted(drive["state"] for drive in plane.call("drive.list")["drives"])


def expect_error(code, text, function, *arguments, **params):
    try:
        function(*arguments, **params)
    except RpcError as error:
        assert error.code == code and text in error.text, f"expected {code} {text}: {error}"
        return
    raise AssertionError(f'expected {code} "{text}", and it worked')


@contextlib.contextmanager
def machines(build, folder, node_names, plane_names=("dp",), paths=None, **drives):
    paths = paths or {}
    nodes = [Node(build, folder, name, paths=paths.get(name), **drives) for name in node_names]
    planes = [Dataplane(build, folder, name, nodes) for name in plane_names]
    try:
        for machine in [*nodes, *planes]:
            machine.start()
        yield nodes, planes
        for machine in [*planes, *nodes]:
            machine.stop()
    finally:
        for machine in [*planes, *nodes]:
            if machine.daemon is not None:
                machine.kill()
