# SPDX-License-Identifier: Apache-2.0
"""Starts one of our daemons, waits for its `ready` lines, ends it in order."""
import contextlib
import os
import select
import signal
import subprocess
import time


class Daemon:
    """lines: what it printed until it was ready; stop() expects exit status 0 on SIGTERM."""

    def __init__(self, command, ready, seconds=20):
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        end = time.monotonic() + seconds
        # select() cannot see what a buffered reader holds back: read the file descriptor itself.
        output, text = self.process.stdout.fileno(), ""
        # What `ready` names twice must have come twice.
        while any(sum(line.startswith(r) for line in self.lines) < ready.count(r) for r in ready):
            left = end - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                self.process.kill()
                raise AssertionError(f"not ready after {seconds} s: {self.lines}")
            more = os.read(output, 65536).decode()
            if not more:
                raise AssertionError(f"ended early: {self.lines} {self.process.stderr.read()}")
            *whole, text = (text + more).split("\n")
            self.lines += whole

    def last_words(self, prefix):
        """The words after `prefix` of each line that begins so."""
        return [line[len(prefix) :].split() for line in self.lines if line.startswith(prefix)]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            _, errors = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("ignored SIGTERM for 20 s") from None
        assert self.process.returncode == 0, f"exit {self.process.returncode}: {errors}"

    def kill(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def running(command, ready):
    daemon = Daemon(command, ready)
    try:
        yield daemon
    except BaseException:
        daemon.kill()
        raise
    daemon.stop()
