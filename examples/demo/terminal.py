# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: steps, progress bars on a terminal, plain lines elsewhere."""
import sys
import time

_START = time.monotonic()


def step(text):
    print(f"[{time.monotonic() - _START:5.1f} s] {text}", flush=True)


def detail(text):
    for line in text.splitlines():
        print(f"          {line}", flush=True)


class Bar:
    """A progress bar; on something that is no terminal it speaks once every quarter."""

    def __init__(self, label):
        self.label = label
        self.live = sys.stdout.isatty()
        self.spoken = -1

    def show(self, done, total):
        percent = 100 if total == 0 else min(100, done * 100 // total)
        if self.live:
            filled = percent * 30 // 100
            bar = "#" * filled + "." * (30 - filled)
            print(f"\r          {self.label} [{bar}] {percent:3d}%", end="", flush=True)
        elif percent // 25 != self.spoken:
            self.spoken = percent // 25
            print(f"          {self.label} {percent}%", flush=True)

    def end(self):
        if self.live:
            print(flush=True)


def mib(count):
    return f"{count / (1 << 20):.1f} MiB"
