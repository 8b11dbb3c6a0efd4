# SPDX-License-Identifier: Apache-2.0
"""Drives in memory, with a cache that is lost, which lose power together."""
import threading

SECTOR = 512


class Memory:
    """For Runtime.create."""

    def __init__(self, contents, lock=None):
        self.bytes, self.lock = contents, lock or threading.Lock()

    def read(self, offset, buffer):
        with self.lock:
            buffer[:] = self.bytes[offset : offset + len(buffer)]

    def write(self, offset, data):
        with self.lock:
            self.bytes[offset : offset + len(data)] = data
            self.written(offset, data)

    def written(self, offset, data):
        pass


class Power:
    """cut_after(n) takes what the drives would hold if power failed at their n-th operation from
    now: each write that was not flushed is there, torn or lost. They go on; `cuts` has that.
    """

    def __init__(self, count, size, random):
        self.lock, self.random = threading.Lock(), random
        self.left, self.cuts = 0, []
        self.drives = [Drive(self, size) for _ in range(count)]

    def cut_after(self, operations):
        with self.lock:
            self.left = operations

    def cut(self):
        with self.lock:
            self._cut()

    def worked(self):  # a drive, which holds the lock
        self.left -= 1
        if self.left == 0:
            self._cut()

    def _cut(self):
        self.left = 0
        chance = self.random.choice([0, 0.5, 1])  # 1: only the process died
        self.cuts.append([drive.contents(chance) for drive in self.drives])


class Drive(Memory):
    """One with a cache."""

    def __init__(self, power, size):
        super().__init__(bytearray(size), power.lock)
        self.power, self.durable, self.cached = power, bytearray(size), []

    def written(self, offset, data):
        self.cached.append((offset, bytes(data)))
        self.power.worked()

    def flush(self):
        with self.lock:
            for offset, data in self.cached:
                self.durable[offset : offset + len(data)] = data
            self.cached.clear()
            self.power.worked()

    def contents(self, chance):
        found = bytearray(self.durable)
        for offset, data in self.cached:
            length = len(data)
            if self.power.random.random() >= chance:
                length = self.power.random.choice([0, 0, length // SECTOR // 2 * SECTOR])
            found[offset : offset + length] = data[:length]
        return found
