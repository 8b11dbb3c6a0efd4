#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our NBD server judged by clients that others wrote: libnbd, nbdcopy, qemu-img, qemu-io, fio.

usage: nbd_test.py BUILD_DIR      (exit 77: a client is missing)
"""
import errno
import hashlib
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys

from tools import require, run

require("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio")

import nbd  # noqa: E402
import pytest  # noqa: E402

from daemon import running  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BB_BUILD_DIR", "build"))
SERVE = BUILD / "programs" / "bb-serve"
MIB = 1 << 20
SIZE = 256 * MIB


@pytest.fixture(params=["mem", "file"], name="server")
def fixture_server(request, tmp_path):
    """One device on TCP and on a Unix socket; yields (TCP URI, Unix URI)."""
    device = f"mem:{SIZE}"
    if request.param == "file":
        device = f"file:{tmp_path}/disk.img?create=1&size={SIZE}"
    unix = tmp_path / "s"
    command = [SERVE, "--device", device, "--nbd", "127.0.0.1:0", "--nbd", f"unix:{unix}"]
    with running(command, ["ready nbd 127", "ready nbd unix"]) as daemon:
        tcp = [words[0] for words in daemon.last_words("ready nbd ") if words[0][0] == "1"][0]
        yield f"nbd://{tcp}/disk", f"nbd+unix:///disk?socket={unix}"


def connected(uri, strict=True):
    handle = nbd.NBD()
    if not strict:
        handle.set_strict_mode(0)
    handle.connect_uri(uri)
    return handle


def some_image(path, seed):
    """Data, zeroes, data, and a size that is no power of two."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        for at in range(0, SIZE - 5 * MIB, 8 * MIB):
            file.seek(at)
            if generator.random() < 0.6:
                file.write(generator.randbytes(generator.randrange(1, 8 * MIB)))
        file.truncate(SIZE)


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def test_info(server):
    asked = ("nbdinfo", "--no-content", "--json")  # what the content looks like is not UTF-8
    for uri in server:
        info = json.loads(run(*asked, uri))
        export = info["exports"][0]
        assert info["structured"] is True
        assert export["export-size"] == SIZE
        assert export["can_multi_conn"] and export["can_fua"] and export["can_flush"]
        assert export["can_trim"] and export["can_zero"] and export["can_df"]
        assert export["can_cache"] and export["can_fast_zero"] and not export["is_read_only"]
        assert export["contexts"] == ["base:allocation"]
        assert export["block_size_minimum"] in (512, 4096)
        assert export["block_size_maximum"] == 32 * MIB
    listed = json.loads(run(*asked, "--list", server[0].rsplit("/", 1)[0]))
    assert [export["export-name"] for export in listed["exports"]] == ["disk"]
    assert "disk-not" in run("nbdinfo", server[0] + "-not", fails=True)


def test_nbdcopy_in_and_out_over_several_connections(server, tmp_path):
    tcp, unix = server
    image, back = tmp_path / "in.img", tmp_path / "out.img"
    some_image(image, 1)
    run("nbdcopy", "--connections=4", "--requests=32", "--flush", image, tcp)
    run("nbdcopy", "--connections=2", unix, back)
    assert sha256(image) == sha256(back)


def test_qemu_img_converts_and_compares(server, tmp_path):
    image = tmp_path / "in.img"
    some_image(image, 2)
    tcp = server[0]
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", 8, image, tcp)
    out = run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, tcp)
    assert "Images are identical" in out
    run("qemu-io", "-f", "raw", "-c", "write -P 0xab 1M 64k", "-c", "read -P 0xab 1M 64k",
        "-c", "write -z 1M 4k", "-c", "read -P 0 1M 4k", "-c", "read -P 0xab 1028k 60k",
        "-c", "discard 2M 1M", "-c", "write -f -P 0xcd 5M 128k", "-c", "flush",
        "-c", "aio_write -P 1 8M 16M", "-c", "aio_read -P 0xcd 5M 128k", "-c", "aio_flush",
        "-c", "read -P 1 8M 16M", tcp)  # fmt: skip
    assert "differs" not in run("qemu-io", "-f", "raw", "-c", "read -P 0xcd 5M 128k", tcp)
    assert run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, tcp, fails=True)


def test_fio_verifies(server):
    for name, sizes, depth in (("small", "4k-4k", 128), ("mixed", "4k-128k", 32)):
        out = run("fio", f"--name={name}", "--ioengine=nbd", f"--uri={server[0]}", "--rw=randrw",
                  f"--bsrange={sizes}", "--size=64M", f"--iodepth={depth}", "--verify=crc32c",
                  "--verify_fatal=1", "--output-format=json")  # fmt: skip
        job = json.loads(out[out.index("{") : out.rindex("}") + 1])["jobs"][0]
        assert job["error"] == 0
        assert job["read"]["total_ios"] > 0 and job["write"]["total_ios"] > 0


def test_zero_trim_fua_and_structured_reads(server):
    client = connected(server[0])
    assert client.get_structured_replies_negotiated()
    data = random.Random(3).randbytes(MIB)
    client.pwrite(data, 4 * MIB, nbd.CMD_FLAG_FUA)
    assert client.pread(MIB, 4 * MIB) == data
    chunks = []

    def on_chunk(buffer, offset, status, _error):
        chunks.append((offset, len(buffer), status))

    assert client.pread_structured(MIB, 4 * MIB, on_chunk, nbd.CMD_FLAG_DF) == data
    assert chunks == [(4 * MIB, MIB, nbd.READ_DATA)]
    client.zero(4096, 4 * MIB + 4096, nbd.CMD_FLAG_NO_HOLE)
    client.zero(4096, 4 * MIB + 8192, nbd.CMD_FLAG_FUA)
    want = data[:4096] + bytes(8192) + data[12288:]
    assert client.pread(MIB, 4 * MIB) == want
    client.trim(64 * MIB, 128 * MIB, nbd.CMD_FLAG_FUA)
    client.zero(SIZE, 0)
    assert client.pread(32 * MIB, SIZE - 32 * MIB) == bytes(32 * MIB)
    client.flush()
    client.shutdown()


def block_status(client, length, offset, flags=0):
    """[(length, flags), …] of one reply."""
    entries = []

    def on_extents(context, at, descriptors, _error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION and at == offset
        entries.extend(zip(descriptors[::2], descriptors[1::2]))

    client.block_status(length, offset, on_extents, flags)
    return entries


HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


def mapped(uri):
    return [(e["offset"], e["length"], e["type"]) for e in json.loads(run("nbdinfo", "--map",
            "--json", uri))]  # fmt: skip


def test_block_status_follows_writes_and_discards(server):
    tcp, unix = server
    assert mapped(tcp) == [(0, SIZE, HOLE)]
    client = nbd.NBD()
    client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    client.connect_uri(tcp)
    client.pwrite(b"x" * MIB, 16 * MIB)
    client.pwrite(b"x" * MIB, 32 * MIB)
    want = [(0, 16 * MIB, HOLE), (16 * MIB, MIB, 0), (17 * MIB, 15 * MIB, HOLE),
            (32 * MIB, MIB, 0), (33 * MIB, SIZE - 33 * MIB, HOLE)]  # fmt: skip
    assert mapped(unix) == want
    image_map = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", tcp))
    assert [(e["start"], e["length"]) for e in image_map if e["data"]] == [
        (16 * MIB, MIB), (32 * MIB, MIB)]  # fmt: skip
    assert block_status(client, SIZE, 0, nbd.CMD_FLAG_REQ_ONE) == [(16 * MIB, HOLE)]
    assert block_status(client, 4096, 16 * MIB) == [(4096, 0)]
    client.zero(MIB, 16 * MIB)  # may punch
    client.zero(MIB, 32 * MIB, nbd.CMD_FLAG_NO_HOLE)
    sure = block_status(client, SIZE, 0)
    assert sure[0][1] == HOLE and sure[0][0] >= 17 * MIB
    client.trim(MIB, 32 * MIB)
    assert mapped(tcp) == [(0, SIZE, HOLE)]
    for length, offset in ((512, SIZE), (SIZE, 512), (100, 0)):
        with pytest.raises(nbd.Error) as refused:
            client.set_strict_mode(0)
            block_status(client, length, offset)
        assert refused.value.errnum == errno.EINVAL
    client.shutdown()


def test_many_extents_come_in_bounded_replies(server):
    client = nbd.NBD()
    client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    client.connect_uri(server[0])
    step = 64 * 1024
    for at in range(0, 256 * MIB, 2 * step):
        client.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"x" * step)), at)
        while client.aio_in_flight() > 64:
            client.poll(-1)
    while client.aio_in_flight():
        client.poll(-1)
    first = block_status(client, SIZE, 0)
    assert 1 < len(first) <= 2048
    at = sum(length for length, _ in first)
    rest = block_status(client, SIZE - at, at) if at < SIZE else []
    assert [length for length, _ in first + rest] == [step] * (SIZE // step)
    client.shutdown()


def test_nbdcopy_and_convert_skip_holes(server, tmp_path):
    sparse = tmp_path / "out.img"
    client = connected(server[0])
    client.pwrite(b"d" * MIB, 128 * MIB)
    client.shutdown()
    run("nbdcopy", server[0], sparse)
    assert sparse.stat().st_blocks * 512 <= 2 * MIB and sparse.stat().st_size == SIZE
    before = sha256(sparse)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", server[1], tmp_path / "two.img")
    assert sha256(tmp_path / "two.img") == before


def test_cache_and_fast_zero(server):
    client = connected(server[0])
    client.pwrite(b"x" * MIB, 0, nbd.CMD_FLAG_FUA)
    client.cache(MIB, 0)
    client.cache(SIZE, 0)
    client.zero(MIB, 0, nbd.CMD_FLAG_FAST_ZERO)
    assert client.pread(MIB, 0) == bytes(MIB)
    client.shutdown()


def test_zeroes_that_are_not_fast_are_refused():
    command = [SERVE, "--device", "mem:4M", "--nvme-tcp", "127.0.0.1:0"]
    with running(command, ["ready nvme-tcp"]) as daemon:
        address, name = daemon.last_words("export nvme-tcp ")[0][-2:]
        second = [SERVE, "--device", f"nvme-tcp://{address}/{name}", "--nbd", "127.0.0.1:0"]
        with running(second, ["ready nbd"]) as proxy:
            client = connected(f"nbd://{proxy.last_words('ready nbd ')[0][0]}/disk")
            with pytest.raises(nbd.Error) as refused:
                client.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
            assert refused.value.errnum == errno.ENOTSUP
            client.zero(4096, 0)
            client.shutdown()


def test_error_chunks_tell_where(tmp_path):
    device = "fault:mem:4M?read_error=1&range=2M-3M"
    with running([SERVE, "--device", device, "--nbd", "127.0.0.1:0"], ["ready nbd"]) as daemon:
        client = connected(f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk")
        seen = []

        def on_chunk(_buffer, offset, status, error):
            seen.append((offset, status, error.value))

        with pytest.raises(nbd.Error) as refused:
            client.pread_structured(4 * MIB, 0, on_chunk)
        assert refused.value.errnum == errno.EIO
        assert seen == [(2 * MIB, nbd.READ_ERROR, errno.EIO)]
        assert client.pread(MIB, 0) == bytes(MIB)
        client.shutdown()


def test_read_only_export():
    command = [SERVE, "--device", "mem:4M", "--nbd", "127.0.0.1:0", "--nbd-read-only"]
    with running(command, ["ready nbd"]) as daemon:
        uri = f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk"
        info = json.loads(run("nbdinfo", "--no-content", "--json", uri))["exports"][0]
        assert info["is_read_only"] and not info["can_zero"] and not info["can_trim"]
        client = connected(uri, strict=False)
        for call in (lambda: client.pwrite(bytes(512), 0), lambda: client.zero(512, 0),
                     lambda: client.trim(512, 0)):  # fmt: skip
            with pytest.raises(nbd.Error) as refused:
                call()
            assert refused.value.errnum == errno.EPERM
        assert client.pread(512, 0) == bytes(512)
        client.shutdown()


def test_blocks_of_4096_are_enforced():
    command = [SERVE, "--device", "mem:4M?block_size=4096", "--nbd", "127.0.0.1:0"]
    with running(command, ["ready nbd"]) as daemon:
        uri = f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk"
        client = connected(uri, strict=False)
        assert client.get_block_size(nbd.SIZE_MINIMUM) == 4096
        with pytest.raises(nbd.Error) as refused:
            client.pread(512, 0)
        assert refused.value.errnum == errno.EINVAL
        client.pwrite(b"x" * 4096, 4096)
        client.shutdown()
        run("qemu-io", "-f", "raw", "-c", "write -P 7 512 512", "-c", "read -P 0x78 4096 4096", uri)
        ignorant = nbd.NBD()
        ignorant.set_request_block_size(False)
        with pytest.raises(nbd.Error):
            ignorant.connect_uri(uri)


def test_largest_requests(server):
    client = connected(server[0])
    data = random.Random(4).randbytes(32 * MIB)
    client.pwrite(data, 512 * 3)
    assert client.pread(32 * MIB, 512 * 3) == data
    client.shutdown()
    client = connected(server[0], strict=False)
    with pytest.raises(nbd.Error) as refused:
        client.pread(32 * MIB + 512, 0)
    assert refused.value.errnum == errno.EINVAL
    with pytest.raises(nbd.Error) as refused:
        client.pwrite(bytes(32 * MIB + 512), 0)
    assert refused.value.errnum == errno.EINVAL
    assert client.pread(512, 512 * 3) == data[:512]


@pytest.mark.parametrize("structured", [True, False])
def test_refusals_leave_the_connection_usable(server, structured):
    client = nbd.NBD()
    client.set_strict_mode(0)
    client.set_request_structured_replies(structured)
    client.connect_uri(server[0])
    cases = [
        (lambda: client.pread(512, SIZE), errno.EINVAL),
        (lambda: client.pread(1024, SIZE - 512), errno.EINVAL),
        (lambda: client.pread(100, 0), errno.EINVAL),
        (lambda: client.pread(512, 7), errno.EINVAL),
        (lambda: client.pwrite(bytes(512), SIZE), errno.ENOSPC),
        (lambda: client.pwrite(bytes(300 * 1024), SIZE - 512), errno.ENOSPC),
        (lambda: client.pwrite(bytes(100), 512), errno.EINVAL),
        (lambda: client.zero(512, SIZE), errno.ENOSPC),
        (lambda: client.trim(512, SIZE), errno.EINVAL),
        (lambda: client.cache(512, SIZE), errno.EINVAL),
        (lambda: client.cache(100, 0), errno.EINVAL),
        (lambda: block_status(client, 512, 0), errno.EINVAL),  # no context was agreed
    ]
    for number, (call, want) in enumerate(cases):
        with pytest.raises(nbd.Error) as refused:
            call()
        assert refused.value.errnum == want, f"case {number}: {refused.value}"
        client.pwrite(bytes([number]) * 512, 512)
        assert client.pread(512, 512) == bytes([number]) * 512
    client.shutdown()


def test_without_no_zeroes_and_by_export_name(server):
    client = nbd.NBD()
    client.set_handshake_flags(nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE)
    client.set_opt_mode(True)
    client.connect_uri(server[0])
    client.opt_go()
    assert client.get_size() == SIZE
    client.shutdown()
    address = server[0].split("/")[2].split(":")
    with socket.create_connection((address[0], int(address[1]))) as raw:
        raw.recv(18, socket.MSG_WAITALL)
        raw.sendall(struct.pack(">I", 1) + b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk")
        answer = raw.recv(134, socket.MSG_WAITALL)
    assert struct.unpack(">Q", answer[:8])[0] == SIZE and answer[10:] == bytes(124)


def test_required_tls_is_refused(server):
    client = nbd.NBD()
    if not client.supports_tls():
        pytest.skip("libnbd without TLS")
    client.set_tls(nbd.TLS_REQUIRE)
    with pytest.raises(nbd.Error, match="TLS"):
        client.connect_uri(server[0])


def test_a_client_killed_in_the_middle_harms_nobody(server):
    other = connected(server[0])
    other.pwrite(b"x" * 4096, 0)
    address = server[0].split("/")[2].split(":")
    for cut in (3, 20, 46, 60, 100, 4000, 300_000):
        raw = socket.create_connection((address[0], int(address[1])))
        script = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk"
        for cookie in range(40):
            script += struct.pack(">IHHQQI", 0x25609513, 0, 1, cookie, 8192, 65536) + bytes(65536)
            script += struct.pack(">IHHQQI", 0x25609513, 0, 0, cookie, 0, MIB)
        raw.sendall(script[:cut])
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()  # reset, not an orderly end
        assert other.pread(4096, 0) == b"x" * 4096
    other.shutdown()


def test_a_stream_of_garbage_is_dropped(server):
    address = server[0].split("/")[2].split(":")
    generator = random.Random(5)
    for _ in range(50):
        with socket.create_connection((address[0], int(address[1]))) as raw:
            raw.settimeout(10)
            go = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk"
            raw.sendall(go + generator.randbytes(4096))
            try:
                while raw.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    client = connected(server[0])
    assert client.get_size() == SIZE
    client.shutdown()


def test_every_connection_sees_a_flushed_write(server):
    handles = [connected(uri) for uri in server for _ in range(3)]
    for number, handle in enumerate(handles):
        handle.pwrite(bytes([number]) * 4096, number * 4096)
    handles[0].flush()
    for handle in handles:
        got = handle.pread(4096 * len(handles), 0)
        assert got == b"".join(bytes([n]) * 4096 for n in range(len(handles)))
        handle.shutdown()


def test_exports_live_on_several_reactors(tmp_path):
    """Three on two threads: every address leads to each of them."""
    unix, image = tmp_path / "s", tmp_path / "in"
    command = [SERVE, "--reactors", "2", "--device", f"mem:{8 * MIB}", "--device", f"mem:{8 * MIB}",
               "--device", f"file:{tmp_path}/disk.img?create=1&size={8 * MIB}",
               "--nbd", "127.0.0.1:0", "--nbd", f"unix:{unix}"]  # fmt: skip
    with running(command, ["ready nbd 127", "ready nbd unix"]) as daemon:
        tcp = next(words[0] for words in daemon.last_words("ready nbd ") if words[0][0] == "1")
        listed = json.loads(run("nbdinfo", "--list", "--no-content", "--json", f"nbd://{tcp}"))
        names = ["disk0", "disk1", "disk2"]
        assert sorted(export["export-name"] for export in listed["exports"]) == names
        for name in names:
            for uri in (f"nbd://{tcp}/{name}", f"nbd+unix:///{name}?socket={unix}"):
                image.write_bytes(os.urandom(8 * MIB))
                run("nbdcopy", "--connections=4", image, uri)
                run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
        handles = [connected(f"nbd://{tcp}/{name}") for name in names]
        for i, handle in enumerate(handles):
            handle.pwrite(bytes([i + 1]) * 512, 0)
        for i, handle in enumerate(handles):
            assert handle.pread(512, 0) == bytes([i + 1]) * 512
            handle.shutdown()


def test_read_only_file(tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(b"r" * MIB)
    command = [SERVE, "--device", f"file:{image}?read_only=1", "--nbd", "127.0.0.1:0"]
    with running(command, ["ready nbd"]) as daemon:
        client = connected(f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk", strict=False)
        assert client.is_read_only() and not client.can_trim()
        assert client.pread(512, 0) == b"r" * 512
        for call in (lambda: client.pwrite(bytes(512), 0), lambda: client.zero(512, 0)):
            with pytest.raises(nbd.Error) as refused:
                call()
            assert refused.value.errnum == errno.EPERM
        client.flush()
        client.shutdown()
    assert image.read_bytes() == b"r" * MIB


def test_a_client_that_stays_does_not_hold_up_the_end(tmp_path):
    command = [SERVE, "--device", "mem:1M", "--device", "mem:2M", "--nbd", "127.0.0.1:0"]
    with running(command, ["ready nbd"]) as daemon:
        address = daemon.last_words("ready nbd ")[0][0]
        client = connected(f"nbd://{address}/disk1")
        assert client.get_size() == 2 * MIB
        daemon.stop()
        with pytest.raises(nbd.Error):
            client.pread(512, 0)


@pytest.mark.parametrize(
    "words, status, text",
    [
        (["--device", "mem:1M"], 2, "--nbd"),
        (["--nbd", "127.0.0.1:0"], 2, "--device"),
        (["--device", "mem:1M", "--nbd", "127.0.0.1:0", "--colour", "red"], 2, "--colour"),
        (["--device", "tape:1M", "--nbd", "127.0.0.1:0"], 2, "no device scheme"),
        (["--device", "mem:1000", "--nbd", "127.0.0.1:0"], 2, "not a multiple of the block size"),
        (["--device", "file:/no/such/file", "--nbd", "127.0.0.1:0"], 3, "/no/such/file"),
        (["--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--digest", "no"], 2, "require"),
        (["--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--uuid", "7"], 2, "uuid"),
        (["--device", "mem:1M", "--nbd", "not-an-address"], 2, "not-an-address"),
        (["--device", "mem:1M", "--nbd", "unix:" + "x" * 200], 2, "allowed are 1 to"),
        (["--device", "mem:1M", "--nbd", "127.0.0.1:0", "--log-level", "loud"], 2, "loud"),
    ],
)
def test_bad_arguments(words, status, text):
    done = subprocess.run([SERVE, *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == status, done.stderr
    # Where io_uring is refused, a line that says so comes first.
    lines = done.stderr.splitlines(keepends=True)
    said = "".join(line for line in lines if " warning: io_uring" not in line)
    assert said.startswith("bb-serve: error: ") and "\nhint: " in said
    assert text in said and done.stdout == ""


def test_port_in_use():
    command = [SERVE, "--device", "mem:1M", "--nbd", "127.0.0.1:0"]
    with running(command, ["ready nbd"]) as daemon:
        address = daemon.last_words("ready nbd ")[0][0]
        second = [SERVE, "--device", "mem:1M", "--nbd", address]
        done = subprocess.run(second, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 4 and "[already_exists]" in done.stderr and address in done.stderr


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["BB_BUILD_DIR"] = sys.argv[1]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
