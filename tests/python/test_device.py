# SPDX-License-Identifier: Apache-2.0
import asyncio
import threading
import time

import numpy
import pytest

import blockbridge as bb


@pytest.fixture
def device(runtime):
    with runtime.open("mem:16M") as device:
        yield device


def test_tells_what_it_is(device):
    assert device.size == 16 << 20
    assert device.block_size == 512
    assert device.info["ready"] is True


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytes(range(256)) * 32,
        lambda: bytearray(b"ab" * 4096),
        lambda: memoryview(b"xyz!" * 2048),
        lambda: numpy.arange(2048, dtype=numpy.uint32),
        lambda: numpy.arange(2048, dtype=numpy.float64).reshape(32, 64),
    ],
    ids=["bytes", "bytearray", "memoryview", "numpy", "numpy-2d"],
)
def test_takes_every_buffer(device, make):
    data = make()
    raw = bytes(data)
    assert device.write(4096, data) == len(raw)
    device.flush()
    assert device.read(4096, len(raw)) == raw
    into = bytearray(len(raw))
    assert device.read_into(4096, into) == len(raw)
    assert into == raw


def test_reads_into_numpy_without_a_copy(device):
    out = numpy.random.default_rng(1).integers(0, 256, 8192, dtype=numpy.uint8)
    device.write(0, out)
    into = numpy.zeros(8192, dtype=numpy.uint8)
    device.read_into(0, into)
    assert (into == out).all()


def test_refuses_what_it_cannot_fill(device):
    with pytest.raises((BufferError, ValueError)):
        device.read_into(0, b"\0" * 512)  # not writable
    with pytest.raises(bb.InvalidArgumentError, match="not C-contiguous"):
        device.write(0, numpy.zeros((64, 64), dtype=numpy.uint8)[:, ::2])


def test_discard_and_zeroes(device):
    device.write(0, b"x" * 8192)
    device.write_zeroes(0, 4096)
    device.discard(4096, 4096)
    assert device.read(0, 4096) == bytes(4096)


@pytest.mark.parametrize(
    "uri, error, text",
    [
        ("mem", bb.InvalidArgumentError, "is not a device URI"),
        ("mem:1M?x=1", bb.InvalidArgumentError, 'unknown URI option "x"'),
        ("file:/nonexistent/a", bb.NotFoundError, "No such file"),
        ("floppy:a", bb.InvalidArgumentError, 'no device scheme "floppy"'),
    ],
)
def test_errors_by_code(runtime, uri, error, text):
    with pytest.raises(error, match=text) as caught:
        runtime.open(uri)
    assert isinstance(caught.value, bb.Error)
    assert caught.value.code in str(caught.value)


def test_closed_objects_say_so(runtime):
    device = runtime.open("mem:1M")
    device.close()
    device.close()
    with pytest.raises(bb.BadStateError, match="closed"):
        device.read(0, 512)


def test_releases_the_gil(device):
    """While one thread is in a long call, another runs Python."""
    counted = 0
    stop = threading.Event()

    def count():
        nonlocal counted
        while not stop.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(50):
        device.write(0, bytes(8 << 20))
    stop.set()
    thread.join()
    assert counted > 0


def test_asyncio_at_queue_depth_32(device):
    async def worker(number):
        for i in range(20):
            offset = (number * 20 + i) * 4096
            data = bytes([number, i]) * 2048
            await device.awrite(offset, data, fua=True)
            assert await device.aread(offset, 4096) == data
        await device.aflush()

    async def main():
        await asyncio.gather(*(worker(n) for n in range(32)))
        with pytest.raises(bb.InvalidArgumentError, match="beyond the end"):
            await device.aread(16 << 20, 512)

    asyncio.run(main())


def test_the_stub_names_everything():
    """Every public name is in the type stub, and the stub names nothing else."""
    import ast
    import pathlib

    stub = pathlib.Path(__file__).parents[2] / "bindings/python/blockbridge/__init__.pyi"
    tree = ast.parse(stub.read_text())
    named = {
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    }
    assert named == set(bb.__all__)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            cls = getattr(bb, node.name)
            for member in node.body:
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    assert hasattr(cls, member.name), f"{node.name}.{member.name}"


def test_local_drives_are_a_list_of_dicts():
    for drive in bb.local_drives():
        assert drive["source"] in ("hardware", "simulated")
        assert all(space["uri"].startswith("nvme:/dev/ng") for space in drive["namespaces"])


def test_closing_waits_for_the_calls_of_other_threads():
    refused = []
    for _ in range(20):
        with bb.Runtime() as runtime:
            device = runtime.open("fault:mem:1M?latency=200us&latency_chance=1/2")

            def load(device=device):
                try:
                    while True:
                        device.write(0, bytes(4096))
                except bb.BadStateError as why:
                    refused.append(str(why))

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.002)
            device.close()
            for thread in threads:
                thread.join()
            with pytest.raises(bb.BadStateError, match="closed"):
                device.read(0, 4096)
    assert len(refused) == 80
    assert all("closed" in text for text in refused), refused
