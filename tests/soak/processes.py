# SPDX-License-Identifier: Apache-2.0
"""The processes of a soak test: what they print, what they take, how they end."""
import os
import pathlib
import signal
import subprocess
import threading
import time

SANITIZERS = {
    # A small quarantine is full soon: memory that grows later is somebody's.
    "ASAN_OPTIONS": "quarantine_size_mb=8:detect_leaks=1:halt_on_error=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


class Process:
    def __init__(self, name, command, folder):
        self.name, self.lines, self.errors = name, [], pathlib.Path(folder, name + ".stderr")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **SANITIZERS})  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            del self.lines[64:-1]  # what comes first stays, and of the rest the last

    def wait_for(self, what, found, seconds=120):
        """The first true value of found(lines)."""
        end = time.monotonic() + seconds
        while not (value := found(self.lines)):
            assert self.alive(), f"{self.name} ended: {self.errors.read_text()}"
            assert time.monotonic() < end, f"{self.name}: no {what} within {seconds} s"
            time.sleep(0.05)
        return value

    def alive(self):
        return self.process.poll() is None

    def resident_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0  # it has ended

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, seconds):
        """In order: exit status 0, and a leak is no order."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name}: ignored SIGTERM for {seconds} s") from None
        self.reader.join()
        said = self.errors.read_text()
        assert status == 0, f"{self.name}: exit status {status}: {said[-20000:]}"
        assert "Sanitizer" not in said and "runtime error" not in said, f"{self.name}: {said}"

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()
