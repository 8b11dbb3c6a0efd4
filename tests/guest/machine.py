# SPDX-License-Identifier: Apache-2.0
"""A running guest: QEMU without KVM, and shell scripts sent to the guest's first process.

with Machine(kernel, initramfs) as guest:
    output = guest.run("uname -r")            # raises if the script fails
    code, output = guest.call("false")        # does not

The host's 127.0.0.1 is 192.0.2.2 inside; nothing else can be reached.
"""
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from image import HOST_ADDRESS, NETWORK
from kernels import Unavailable

QEMU = "qemu-system-x86_64"
KERNEL_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable "
    "random.trust_cpu=on audit=0 cryptomgr.notests lpj=5000000"
)


BOOTS = 3  # at most, of a kernel that dies before its first process runs


class GuestError(Exception):
    pass


class GuestGone(GuestError):
    pass


class Machine:
    def __init__(self, kernel, initramfs, memory_mib=768, processors=2, forward=None, append="",
                 devices=()):  # fmt: skip
        """forward: (host port, guest port), or several, to let the host's loopback into the guest.

        devices: further arguments of QEMU, such as emulated drives.
        """
        if shutil.which(QEMU) is None:
            raise Unavailable(f"no program {QEMU}")
        network = f"user,id=net,ipv6=off,restrict=off,net={NETWORK},host={HOST_ADDRESS}"
        pairs = [forward] if isinstance(forward, tuple) else forward or []
        for host_port, guest_port in pairs:
            network += f",hostfwd=tcp:127.0.0.1:{host_port}-:{guest_port}"
        self.process = None
        for boots_left in reversed(range(BOOTS)):
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bb-guest."))
            command = self._command(kernel, initramfs, memory_mib, processors, network, append)
            try:
                return self._boot(command + list(devices))
            except GuestGone as error:
                self.close(forced=True)
                if boots_left == 0:
                    raise
                print(f"the kernel died before its first process ran, booted again: {error}")
            except BaseException:
                self.close(forced=True)
                raise

    def _boot(self, command):
        self.received, self.jobs = b"", 0
        started = time.monotonic()
        with open(self.folder / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.socket = self._connect()
        _, self.uptime, self.release = self._line(time.monotonic() + 180).split()
        self.boot_seconds = time.monotonic() - started

    # One thread runs all processors in turn. QEMU before 8.1 may translate code for one processor
    # while another changes it (it locks pages first since then), and a kernel that changes its own
    # code, for a static key, then dies of an int3 that is no longer there. With one thread that is
    # rare (seen once, at 2 s of a boot), and as long as nothing of ours has run it is booted again.
    def _command(self, kernel, initramfs, memory_mib, processors, network, append):
        return [
            *[QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
            *["-machine", "q35,smm=off,hpet=off,vmport=off,graphics=off", "-cpu", "max"],
            *["-accel", "tcg,thread=single,tb-size=256"],
            *["-smp", str(processors), "-m", str(memory_mib)],
            *["-kernel", str(kernel), "-initrd", str(initramfs)],
            *["-append", f"{KERNEL_COMMAND_LINE} {append}".strip()],
            *["-chardev", f"file,id=console,path={self.folder}/console", "-serial"],
            *["chardev:console", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"],
            *["-chardev", f"socket,id=job,path={self.folder}/job,server=on,wait=off"],
            *["-device", "virtserialport,chardev=job,name=job"],
            *["-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="],
        ]

    def _connect(self):
        end = time.monotonic() + 20
        while True:
            port = socket.socket(socket.AF_UNIX)
            try:
                port.connect(str(self.folder / "job"))
                return port
            except OSError as error:
                port.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    raise GuestError(f"QEMU did not start: {self._tail('qemu.log')}") from error
                time.sleep(0.02)

    def _tail(self, name):
        path = self.folder / name
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def _receive(self, end):
        self.socket.settimeout(max(0.01, end - time.monotonic()))
        try:
            data = self.socket.recv(65536)
        except TimeoutError as error:
            raise GuestError(f"the guest does not answer: {self._tail('console')}") from error
        if not data:
            raise GuestGone(
                f"the guest is gone: {self._tail('console')}{self._tail('qemu.log')}"
            )
        self.received += data

    def _line(self, end):
        while b"\n" not in self.received:
            self._receive(end)
        line, self.received = self.received.split(b"\n", 1)
        return line.decode()

    def start(self, script, seconds=60):
        """Sends a script without waiting; finish() waits for it. One script runs at a time."""
        self.jobs += 1
        data = script.encode() + b"\n"
        self.socket.settimeout(20)
        self.socket.sendall(f"job{self.jobs} {seconds} {len(data)}\n".encode() + data)
        self.deadline = time.monotonic() + seconds + 30

    def finish(self):
        job, code, length = self._line(self.deadline).split()
        if job != f"job{self.jobs}":
            raise GuestError(f"an answer to {job}, and job{self.jobs} was sent")
        while len(self.received) < int(length):
            self._receive(self.deadline + 30)
        output = self.received[: int(length)].decode(errors="replace")
        self.received = self.received[int(length) :]
        return int(code), output

    def call(self, script, seconds=60):
        self.start(script, seconds)
        return self.finish()

    def run(self, script, seconds=60):
        code, output = self.call("set -e\n" + script, seconds)
        if code != 0:
            killed = f" (killed after {seconds} s)" if code == 137 else ""
            raise GuestError(f"in the guest, exit code {code}{killed}:\n{script}\n{output}")
        return output

    def kill(self):
        """SIGKILL: for the target, a host that vanishes without a word."""
        self.process.kill()
        self.process.wait()

    def close(self, forced=False):
        running = self.process is not None and self.process.poll() is None
        if running and not forced:
            try:
                self.socket.sendall(b"QUIT 0 0\n")
                self.process.wait(15)
            except (OSError, subprocess.TimeoutExpired):
                pass
        if running and self.process.poll() is None:
            self.kill()
        if hasattr(self, "socket"):
            self.socket.close()
        if not os.environ.get("BB_GUEST_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
