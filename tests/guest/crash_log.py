# SPDX-License-Identifier: Apache-2.0
"""What a file system asked of its disk, in order, and what had to be in it at each moment."""
import hashlib

from crash_drives import Memory

FLUSH = None
MARKS_BYTES = 1 << 20


class Recorder(Memory):
    """Keeps a log of (offset, data) and FLUSH.

    A write behind the file system is a mark: the workload says there "begin NAME" before it touches
    a file, and "done NAME SHA256" once it has synced it.
    """

    def __init__(self, filesystem_bytes):
        super().__init__(bytearray(filesystem_bytes + MARKS_BYTES))
        self.log = []

    def written(self, offset, data):
        self.log.append((offset, bytes(data)))

    def flush(self):
        with self.lock:
            self.log.append((FLUSH, b""))


class Promises:
    """Which files must be there, by the marks so far: {name: SHA-256}."""

    def __init__(self):
        self.files = {}

    def heard(self, mark):
        word, name, *digest = mark.rstrip(b"\0").decode().split()
        self.files.pop(name, None)
        if word == "done":
            self.files[name] = digest[0]


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
