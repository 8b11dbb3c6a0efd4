# SPDX-License-Identifier: Apache-2.0
"""What the guests connect to: our bb-serve on the host's loopback, or Linux's nvmet as reference.

The reference proves the harness: a step that fails against both is a fault of the step.
"""
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from kernels import Unavailable
from machine import Machine

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from ports import free_port

MIB = 1 << 20
UUIDS = [f"{n * 8}-1111-4111-8111-111111111111" for n in "ab"]
HOSTS = [f"nqn.2026-11.io.blockbridge:host:{n * 8}-0000-4000-8000-000000000000" for n in "123"]


@dataclass(frozen=True)
class Export:
    port: int
    nqn: str
    size_bytes: int


class ServeProcess:
    """A running bb-serve."""

    def __init__(self, build_dir, folder, name, arguments):
        program = pathlib.Path(build_dir, "programs/bb-serve").resolve()
        if not program.exists():
            raise Unavailable(f"no program {program.name} in {program.parent}")
        self.command = [program, *arguments]
        self.log = open(pathlib.Path(folder, f"{name}.log"), "a+", encoding="utf-8")

    def start(self, *addresses):
        command = list(self.command)
        for address in addresses:
            command += ["--nvme-tcp", address]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        try:
            self.said = self._until_ready()
        except BaseException:
            self.process.kill()
            raise

    def found(self):
        """(port, NQN) of each export."""
        exports = re.findall(r"^export nvme-tcp \S+?:(\d+) (\S+)$", self.said, re.M)
        return [(int(port), nqn) for port, nqn in exports]

    def _until_ready(self):
        """The lines up to the "ready" that bb-serve prints last."""
        text, end = "", time.monotonic() + 20
        last = "control" if "--control" in self.process.args else "nvme-tcp"
        while not re.search(rf"^ready {last} .*\n", text, re.M):
            left = max(0, end - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"bb-serve is not ready after 20 s: {text} {self.tail()}")
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, f"bb-serve ended before it was ready: {text} {self.tail()}"
            text += data.decode()
        return text

    def tail(self):
        self.log.seek(0)
        return self.log.read()[-3000:]

    def stop(self):
        """SIGTERM must end it in order within ten seconds."""
        assert self.process.poll() is None, f"bb-serve ended by itself: {self.tail()}"
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"bb-serve ignored SIGTERM for 10 s: {self.tail()}") from None
        assert code == 0, f"bb-serve ended with exit code {code}: {self.tail()}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class OurTarget(ServeProcess):
    """bb-serve with a file and a memory device, on a thread each, for two named hosts."""

    name, has_compare, out_of_range = "bb-serve", True, "LBA Out of Range"
    has_reservations = True
    host_refused = r"Connect for subsystem .* is not allowed|failed to connect queue: 0"

    def __init__(self, build_dir, folder, digests=True, more=()):
        self.disk = pathlib.Path(folder, "disk.img")
        with open(self.disk, "wb") as file:
            file.truncate(256 * MIB)
        sizes = [256 * MIB, 64 * MIB]
        arguments = ["--device", f"file:{self.disk}", "--device", f"mem:{sizes[1] // MIB}M"]
        for uuid in UUIDS:
            arguments += ["--uuid", uuid]
        arguments += ["--reservations", folder, "--digest", "on" if digests else "off"]
        arguments += ["--allow-host", HOSTS[0], "--allow-host", HOSTS[1], "--reactors", "2", *more]
        super().__init__(build_dir, folder, "target", arguments)
        self.start(f"127.0.0.1:{free_port()}")
        found = self.found()
        assert len(found) == 2, f"two exports were asked for, and bb-serve says: {self.said}"
        self.exports = [Export(port, nqn, size) for (port, nqn), size in zip(found, sizes)]

    def crash(self):
        """SIGKILL, and a new process at the same address.

        The kernel may still be closing the ring of the old one, and its sockets with it.
        """
        self.kill()
        end = time.monotonic() + 20
        while True:
            try:
                return self.start(f"127.0.0.1:{self.exports[0].port}")
            except AssertionError as error:
                if "Address already in use" not in str(error) or time.monotonic() > end:
                    raise
                self.log.truncate(0)
                time.sleep(0.1)


class TwoPorts(ServeProcess):
    """bb-serve with two namespaces in one subsystem, two ports, and a control socket."""

    def __init__(self, build_dir, folder):
        self.control = pathlib.Path(folder, "control.sock")
        self.bb = pathlib.Path(build_dir, "programs/bb/bb").resolve()
        arguments = ["--device", "mem:32M", "--device", "mem:32M", "--one-subsystem"]
        arguments += ["--control", f"unix:{self.control}"]
        super().__init__(build_dir, folder, "two-ports", arguments)
        self.start(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        found = self.found()
        self.ports = [port for port, _ in found]
        (self.nqn,) = {nqn for _, nqn in found}
        assert len(self.ports) == 2, self.said


class ReferenceTarget:
    """Linux's nvmet-tcp in a guest of its own, reached through a forwarded port."""

    name, has_compare, out_of_range = "nvmet", False, "NVMe status"
    has_reservations = False
    host_refused = r"Connect for subsystem .* is not allowed|failed to connect queue: 0"

    disk = None

    def __init__(self, image):
        port = free_port()
        self.machine = Machine(*image, forward=(port, 4420), processors=1)
        sizes = [256 * MIB, 64 * MIB]
        names = [f"nqn.2026-11.io.blockbridge:disk:reference-{n}" for n in (1, 2)]
        self.exports = [Export(port, nqn, size) for nqn, size in zip(names, sizes)]
        script = "modprobe -a nvmet-tcp loop\n" + self._port()
        for number, export in enumerate(self.exports, 1):
            script += self._subsystem(number, export.nqn, export.size_bytes)
        for nqn in names:
            script += f"ln -s $c/subsystems/{nqn} $p/subsystems/{nqn}\n"
        self.machine.run(script)

    @staticmethod
    def _port():
        hosts = "".join(f"mkdir $c/hosts/{host}\n" for host in HOSTS[:2])
        return (
            "c=/sys/kernel/config/nvmet; p=$c/ports/1\nmkdir $p\n"
            + hosts
            + "echo tcp >$p/addr_trtype; echo ipv4 >$p/addr_adrfam\n"
            "echo 0.0.0.0 >$p/addr_traddr; echo 4420 >$p/addr_trsvcid\n"
        )

    @staticmethod
    def _subsystem(number, nqn, size_bytes):
        disk = f"/run/disk{number}"
        return (
            f"s=$c/subsystems/{nqn}; mkdir $s; echo 0 >$s/attr_allow_any_host\n"
            + "".join(f"ln -s $c/hosts/{h} $s/allowed_hosts/{h}\n" for h in HOSTS[:2])
            + f"truncate -s {size_bytes} {disk}; d=$(losetup -f); losetup $d {disk}\n"
            f"mkdir $s/namespaces/1; echo $d >$s/namespaces/1/device_path\n"
            "echo 1 >$s/namespaces/1/enable\n"
        )

    def tail(self):
        return self.machine.call("dmesg | tail -30")[1]

    def stop(self):
        self.machine.close()

    kill = stop
