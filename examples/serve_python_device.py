#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that Python is: a class with read and write, served over NVMe/TCP, used from afar by
asyncio with 32 requests in flight and no thread but the library's."""
import asyncio
import sys

import numpy

import blockbridge as bb

BLOCK = 4096


class Doubled:
    """Keeps every byte twice, and says so when the two differ."""

    def __init__(self, size):
        self.first = numpy.zeros(size, dtype=numpy.uint8)
        self.second = numpy.zeros(size, dtype=numpy.uint8)

    def read(self, offset, buffer):
        part = slice(offset, offset + len(buffer))
        if not numpy.array_equal(self.first[part], self.second[part]):
            raise bb.CorruptError(f"the copies differ at {offset}")
        buffer[:] = self.first[part]

    def write(self, offset, data):
        part = slice(offset, offset + len(data))
        self.first[part] = self.second[part] = numpy.frombuffer(data, dtype=numpy.uint8)


async def use(disk):
    """32 writers, each at its own blocks, then as many readers."""

    async def write(number):
        for block in range(number, 512, 32):
            await disk.awrite(block * BLOCK, numpy.full(BLOCK, number, dtype=numpy.uint8))

    async def read(number):
        into = numpy.empty(BLOCK, dtype=numpy.uint8)
        right = 0
        for block in range(number, 512, 32):
            await disk.aread_into(block * BLOCK, into)
            right += int((into == number).all())
        return right

    await asyncio.gather(*map(write, range(32)))
    return sum(await asyncio.gather(*map(read, range(32))))


def main():
    backend = Doubled(4 << 20)
    with bb.Runtime() as runtime, runtime.create(backend, len(backend.first)) as device:
        with device.export("nvme-tcp", "127.0.0.1:0") as exported, bb.Runtime() as elsewhere:
            with elsewhere.open(exported.uri) as disk:
                right = asyncio.run(use(disk))
                backend.second[0] ^= 1
                try:
                    disk.read(0, BLOCK)
                    found = "not found"
                except bb.Error as error:
                    found = error.code
    print(f"{right} of 512 blocks right; a flipped bit: {found}")
    return 0 if right == 512 and found != "not found" else 1


if __name__ == "__main__":
    sys.exit(main())
