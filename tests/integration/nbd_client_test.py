#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our NBD client between peers that others wrote: nbdkit, qemu-nbd and qemu-storage-daemon serve,
bb-serve opens them by nbd: URI and offers them again, libnbd, nbdcopy, qemu-img and fio judge.

usage: nbd_client_test.py BUILD_DIR      (exit 77: a peer is missing)
"""
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time

from tools import peer, require, run

require("nbdkit", "qemu-nbd", "qemu-storage-daemon", "nbdcopy", "nbdinfo", "qemu-img", "fio")

import nbd  # noqa: E402
import pytest  # noqa: E402

from daemon import running  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BB_BUILD_DIR", "build"))
SERVE = BUILD / "programs" / "bb-serve"
MIB = 1 << 20
SIZE = 64 * MIB


def nbdkit(socket, *words):
    return peer(["nbdkit", "-f", "-U", socket, *words], socket)


def qemu_nbd(socket, image, *words):
    return peer(["qemu-nbd", "-f", "raw", "-x", "disk", "-k", socket, "-t", *words, image], socket)


def storage_daemon(socket, image):
    return peer(
        ["qemu-storage-daemon",
         "--blockdev", f"driver=file,node-name=f,filename={image},discard=unmap",
         "--nbd-server", f"addr.type=unix,addr.path={socket},max-connections=8",
         "--export", "type=nbd,id=e,node-name=f,name=disk,writable=on"], socket)  # fmt: skip


@contextlib.contextmanager
def through_us(socket, export="disk", options=""):
    """The URI at which the peer's export is offered again."""
    device = f"nbd+unix:///{export}?socket={socket}{options}"
    with running([SERVE, "--device", device, "--nbd", "127.0.0.1:0"], ["ready nbd"]) as daemon:
        yield f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk"


def sparse_image(path, seed=1):
    generator = random.Random(seed)
    with open(path, "wb") as file:
        for at in range(0, SIZE, 8 * MIB):
            file.seek(at)
            file.write(generator.randbytes(generator.randrange(1, 3) * MIB))
        file.truncate(SIZE)


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


PEERS = {
    "nbdkit_memory": lambda socket, image: nbdkit(socket, "memory", f"{SIZE}"),
    "nbdkit_file": lambda socket, image: nbdkit(socket, "file", image),
    "qemu_nbd": lambda socket, image: qemu_nbd(socket, image, "-e", "8", "--discard=unmap"),
    "storage_daemon": storage_daemon,
}


@pytest.fixture(params=PEERS, name="served")
def fixture_served(request, tmp_path):
    image = tmp_path / "backing.img"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    socket = tmp_path / "s"
    with PEERS[request.param](socket, image):
        yield socket


@pytest.mark.parametrize("options", ["", "&connections=4&queue_depth=8", "&structured=0"])
def test_data_survives_the_way_in_and_out(served, options, tmp_path):
    image, back = tmp_path / "in.img", tmp_path / "out.img"
    sparse_image(image)
    with through_us(served, options=options) as uri:
        run("nbdcopy", "--connections=2", "--flush", image, uri)
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
        run("nbdcopy", uri, back)
    assert sha256(back) == sha256(image)
    run("nbdcopy", f"nbd+unix:///disk?socket={served}", back)  # and without us in between
    assert sha256(back) == sha256(image)


def test_what_the_server_tells_is_passed_on(served):
    direct = f"nbd+unix:///disk?socket={served}"
    with through_us(served) as uri:
        client = nbd.NBD()
        client.connect_uri(uri)
        client.pwrite(b"x" * MIB, 8 * MIB, nbd.CMD_FLAG_FUA)
        client.zero(MIB, 16 * MIB)
        client.flush()
        client.shutdown()

        def data(where):
            extents = json.loads(run("nbdinfo", "--map", "--json", where))
            return [(e["offset"], e["length"]) for e in extents if e["type"] == 0]

        assert data(uri) == data(direct)
        assert (8 * MIB, MIB) in data(uri)
        client = nbd.NBD()
        client.connect_uri(uri)
        if client.can_trim():
            client.trim(MIB, 8 * MIB)
        client.shutdown()
        assert data(uri) == data(direct)


def test_fio_verifies_through_us(served):
    with through_us(served, options="&connections=2") as uri:
        out = run("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw",
                  "--bsrange=4k-128k", "--size=24M", "--iodepth=32", "--verify=crc32c",
                  "--verify_fatal=1", "--output-format=json")  # fmt: skip
        job = json.loads(out[out.index("{") : out.rindex("}") + 1])["jobs"][0]
        assert job["error"] == 0 and job["write"]["total_ios"] > 0


def test_errors_arrive_as_what_they_are(tmp_path):
    socket, bad = tmp_path / "s", tmp_path / "bad"
    with nbdkit(socket, "--filter=error", "memory", f"{SIZE}", "error-pread=EIO",
                "error-pwrite=ENOSPC", "error-rate=100%", f"error-file={bad}"):  # fmt: skip
        with through_us(socket) as uri:
            client = nbd.NBD()
            client.connect_uri(uri)
            client.pwrite(b"x" * 4096, 0)
            bad.touch()
            for call, want in ((lambda: client.pread(4096, 0), errno.EIO),
                               (lambda: client.pwrite(bytes(4096), 0), errno.ENOSPC)):  # fmt: skip
                with pytest.raises(nbd.Error) as refused:
                    call()
                assert refused.value.errnum == want
            bad.unlink()
            assert client.pread(4096, 0) == b"x" * 4096
            client.shutdown()


def test_slow_servers_are_waited_for_and_silent_ones_left(tmp_path):
    socket = tmp_path / "s"
    slow = ["--filter=delay", "--filter=rate", "memory", f"{SIZE}", "delay-read=50ms", "rate=400M"]
    with nbdkit(socket, *slow):
        with through_us(socket) as uri:
            client = nbd.NBD()
            client.connect_uri(uri)
            assert client.pread(MIB, 0) == bytes(MIB)
            client.shutdown()
        with through_us(socket, options="&io_timeout=20ms") as uri:
            client = nbd.NBD()
            client.connect_uri(uri)
            with pytest.raises(nbd.Error) as refused:
                client.pread(4096, 0)
            assert refused.value.errnum == errno.EIO
            client.shutdown()


@pytest.mark.parametrize("wait", [True, False])
def test_a_server_that_dies_and_comes_back(tmp_path, wait):
    image, socket = tmp_path / "backing.img", tmp_path / "s"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(nbdkit(socket, "file", image))
        uri = stack.enter_context(through_us(socket, options="&wait=20s" if wait else ""))
        client = nbd.NBD()
        client.connect_uri(uri)
        client.pwrite(b"a" * MIB, 0)
        first.kill()
        first.wait(20)
        socket.unlink()
        if not wait:
            with pytest.raises(nbd.Error):
                client.pread(4096, 0)
        cookie = None
        if wait:  # asked while nobody is there, answered by the second
            cookie = client.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"b" * 4096)), 4096)
            client.poll(0)
        stack.enter_context(nbdkit(socket, "file", image))
        end = time.monotonic() + 20
        while True:
            try:
                assert client.pread(4096, 0) == b"a" * 4096
                break
            except nbd.Error:
                assert not wait and time.monotonic() < end
                time.sleep(0.05)
        if cookie is not None:
            while not client.aio_command_completed(cookie):
                client.poll(-1)
            assert client.pread(4096, 4096) == b"b" * 4096
        client.shutdown()


def test_read_only_and_block_sizes_are_honoured(tmp_path):
    socket = tmp_path / "s"
    with nbdkit(socket, "-r", "--filter=blocksize-policy", "memory", f"{SIZE}",
                "blocksize-minimum=4096", "blocksize-preferred=64k", "blocksize-maximum=1M",
                "blocksize-error-policy=error"):  # fmt: skip
        with through_us(socket) as uri:
            info = json.loads(run("nbdinfo", "--no-content", "--json", uri))["exports"][0]
            assert info["is_read_only"] and info["block_size_minimum"] == 4096
            assert info["block_size_preferred"] == 65536
            client = nbd.NBD()
            client.connect_uri(uri)
            assert client.pread(8 * MIB, 4096) == bytes(8 * MIB)  # in pieces the server takes
            client.shutdown()


@pytest.mark.parametrize(
    "device, status, text",
    [
        ("nbd+unix:///x?socket={dir}/none", 3, "none"),
        ("nbd+unix:///nothing?socket={socket}", 3, "nothing"),
        ("nbd:///x", 2, "expected nbd://host:port/export"),
        ("nbd+unix:///x", 2, "expected nbd+unix:///export?socket=/path"),
        ("nbd://127.0.0.1:1/x?connections=0", 2, "connections"),
    ],
)
def test_what_cannot_be_opened(tmp_path, device, status, text):
    image, socket = tmp_path / "i", tmp_path / "s"
    image.write_bytes(bytes(MIB))
    with qemu_nbd(socket, image):
        uri = device.format(dir=tmp_path, socket=socket)
        done = subprocess.run([SERVE, "--device", uri, "--nbd", "127.0.0.1:0"],
                              capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
        assert text in done.stderr and done.returncode != 0, done.stderr
        assert status != 2 or done.returncode == 2, done.stderr


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["BB_BUILD_DIR"] = sys.argv[1]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
