# SPDX-License-Identifier: Apache-2.0
"""Devices that are Python objects."""
import asyncio
import gc
import threading
import weakref

import numpy
import pytest

import blockbridge as bb

SIZE = 1 << 20


class Memory:
    def __init__(self):
        self.bytes = bytearray(SIZE)
        self.threads = set()

    def read(self, offset, buffer):
        self.threads.add(threading.get_ident())
        buffer[:] = self.bytes[offset : offset + len(buffer)]

    def write(self, offset, data):
        self.bytes[offset : offset + len(data)] = data


class Full(Memory):
    def __init__(self):
        super().__init__()
        self.calls = []

    def flush(self):
        self.calls.append("flush")

    def discard(self, offset, length):
        self.calls.append(("discard", offset, length))

    def write_zeroes(self, offset, length):
        self.calls.append(("zeroes", offset, length))


def test_reads_and_writes_go_to_the_object(runtime):
    memory = Memory()
    with runtime.create(memory, SIZE, name="memory") as device:
        assert device.size == SIZE and device.block_size == 512
        assert device.info["volatile_cache"] is False
        device.write(512, b"w" * 4096)
        assert memory.bytes[512:4608] == b"w" * 4096
        assert device.read(512, 4096) == b"w" * 4096
        device.write_zeroes(512, 512)
        assert memory.bytes[512:1024] == bytes(512)
        with pytest.raises(bb.NotSupportedError):
            device.discard(0, 512)
        assert len(memory.threads) == 1
        assert threading.get_ident() not in memory.threads


def test_what_the_object_can(runtime):
    full = Full()
    with runtime.create(full, SIZE) as device:
        assert device.info["volatile_cache"] is True
        device.discard(512, 1024)
        device.write_zeroes(0, 4096)
        device.flush()
        assert full.calls == [("discard", 512, 1024), ("zeroes", 0, 4096), "flush"]
        asyncio.run(device.awrite(0, bytes(512), fua=True))
        assert full.calls[-1] == "flush" and len(full.calls) == 4


def test_without_write_it_is_read_only(runtime):
    class Pattern:
        def read(self, offset, buffer):
            numpy.frombuffer(buffer, dtype=numpy.uint64)[:] = numpy.arange(
                offset // 8, (offset + len(buffer)) // 8, dtype=numpy.uint64
            )

    with runtime.create(Pattern(), SIZE) as device:
        assert device.info["read_only"] is True
        back = numpy.frombuffer(device.read(4096, 4096), dtype=numpy.uint64)
        assert (back == numpy.arange(512, 1024)).all()
        with pytest.raises(bb.PermissionDeniedError):
            device.write(0, bytes(512))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "raised, expected",
    [
        (bb.CorruptError("rotten"), bb.CorruptError),
        (bb.UnavailableError("away"), bb.UnavailableError),
        (OSError(5, "broken"), bb.IoError),
        (KeyError("a bug"), bb.IoError),
    ],
    ids=["corrupt", "unavailable", "oserror", "bug"],
)
def test_what_it_raises_arrives(runtime, raised, expected):
    class Broken(Memory):
        def read(self, offset, buffer):
            raise raised

    with runtime.create(Broken(), SIZE) as device:
        with pytest.raises(expected):
            device.read(0, 512)
        device.write(0, bytes(512))


def test_a_view_that_is_kept_is_of_no_use(runtime):
    kept = []

    class Keeper(Memory):
        def read(self, offset, buffer):
            kept.append(buffer)

    with runtime.create(Keeper(), SIZE) as device:
        device.read(0, 512)
    with pytest.raises(ValueError, match="released"):
        kept[0][0]


def test_32_requests_in_flight_over_the_network(runtime):
    memory = Memory()

    async def use(disk):
        await asyncio.gather(*(disk.awrite(i * 4096, bytes([i]) * 4096) for i in range(32)))
        return await asyncio.gather(*(disk.aread(i * 4096, 4096) for i in range(32)))

    with runtime.create(memory, SIZE, threads=4) as device:
        with device.export("nvme-tcp", "127.0.0.1:0") as exported, bb.Runtime() as other:
            with other.open(exported.uri) as disk:
                back = asyncio.run(use(disk))
    assert back == [bytes([i]) * 4096 for i in range(32)]


def test_closing_lets_the_object_go(runtime):
    memory = Memory()
    gone = weakref.ref(memory)
    device = runtime.create(memory, SIZE)
    del memory
    device.read(0, 512)
    device.close()
    gc.collect()
    assert gone() is None
    with pytest.raises(bb.InvalidArgumentError, match="size 1000"):
        runtime.create(Memory(), 1000)
