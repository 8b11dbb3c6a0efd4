# SPDX-License-Identifier: Apache-2.0
"""The demo's machines: three disk nodes and a dataplane, all processes of ours on 127.0.0.1."""
import json
import pathlib
import random
import signal
import socket
import subprocess
import time

DRIVE_BYTES = 1 << 30
DRIVES_PER_NODE = 2


class DemoError(Exception):
    """Something did not go as the demo promises; the text says what and where to look."""


def free_port():
    """A port below those the system gives to outgoing connections: a restart finds it free."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Daemon:
    """One process with its log; started again after a kill with the same configuration."""

    def __init__(self, name, command, log, control):
        self.name = name
        self.command = command
        self.log = log
        self.control = control
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 20
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise DemoError(
                    f"{self.name} did not start (exit {self.process.poll()}):\n{self.last_words()}"
                )
            time.sleep(0.02)

    def answers(self):
        family = socket.AF_UNIX if isinstance(self.control, str) else socket.AF_INET
        with socket.socket(family) as probe:
            probe.settimeout(1)
            return probe.connect_ex(self.control) == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_words(self):
        return pathlib.Path(self.log).read_text(errors="replace")[-2000:]


class Cluster:
    def __init__(self, build, folder):
        self.build = pathlib.Path(build).resolve()
        self.folder = pathlib.Path(folder)
        self.socket = str(self.folder / "dataplane.sock")
        self.nbd = str(self.folder / "nbd.sock")
        self.nvme_port = free_port()
        self.nodes = [self._disk_node(name) for name in ("alpha", "beta", "gamma")]
        self.dataplane = self._dataplane()

    def program(self, name):
        found = [path for path in (self.build / "programs").rglob(name) if path.is_file()]
        if not found:
            raise DemoError(f"{name} is not built under {self.build}: run ./dev build")
        return str(found[0])

    def _disk_node(self, name):
        port = free_port()
        config = self.folder / f"{name}.yaml"
        drives = "".join(
            f'  - {{path: {self.folder}/{name}-{slot}.img, slot: "{slot}", create: 1GiB}}\n'
            for slot in range(DRIVES_PER_NODE)
        )
        config.write_text(
            f"name: {name}\nlisten: [127.0.0.1:{free_port()}]\n"
            f"control: 127.0.0.1:{port}\ndrives:\n{drives}"
        )
        return Daemon(
            name,
            [self.program("bb-disknode"), str(config)],
            self.folder / f"{name}.log",
            ("127.0.0.1", port),
        )

    def _dataplane(self):
        config = self.folder / "dataplane.yaml"
        backplanes = "".join(
            f"  - {{name: {node.name}, control: 127.0.0.1:{node.control[1]}}}\n"
            for node in self.nodes
        )
        config.write_text(
            f"name: demo\nstore: file:{self.folder}/cluster.db\ncontrol: unix:{self.socket}\n"
            f"nvme_tcp: [127.0.0.1:{self.nvme_port}]\nnbd: [unix:{self.nbd}]\n"
            f"backplanes:\n{backplanes}"
        )
        return Daemon(
            "dataplane",
            [self.program("bb-dataplane"), str(config)],
            self.folder / "dataplane.log",
            self.socket,
        )

    def start(self):
        for node in self.nodes:
            node.start()
        self.dataplane.start()

    def stop(self):
        for daemon in [self.dataplane, *self.nodes]:
            daemon.stop()

    def command(self, program, *arguments):
        """Runs one of our command-line programs; what it printed."""
        full = [self.program(program), "--socket", self.socket, *arguments]
        done = subprocess.run(full, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise DemoError(
                f"{program} {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}"
                f"{self.dataplane.last_words()}"
            )
        return done.stdout

    def array(self):
        return json.loads(self.command("healctl", "info", "demo", "-o", "json"))
