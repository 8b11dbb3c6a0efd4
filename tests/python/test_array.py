# SPDX-License-Identifier: Apache-2.0
import numpy
import pytest

import blockbridge as bb


def open_files(runtime, directory, count, size="64M"):
    return [runtime.open(f"file:{directory}/{i}.img?create=1&size={size}") for i in range(count)]


def close_all(devices):
    for device in devices:
        device.close()


def test_mirror_survives_a_lost_member(runtime, tmp_path):
    devices = open_files(runtime, tmp_path, 3)
    store = f"file:{tmp_path}/cluster.db"
    data = numpy.random.default_rng(2).integers(0, 256, 1 << 20, dtype=numpy.uint8)
    with bb.Array.create(devices, name="m", store=store, assume_clean=True) as array:
        array.write(0, data)
        array.flush()
        lost = array.state["members"][1]["uuid"]
        before = array.state["version"]
        array.fail_member(lost)
        assert array.state["version"] > before  # each change of membership is committed
        assert "degraded" in array.state["state"]
        array.write(0, data[::-1].copy())
        array.readmit_member(lost)
        array.wait_clean()
        assert array.state["state"] == "online"
        with pytest.raises(bb.BadStateError, match="1 arrays or exports use"):
            devices[0].close()
    # Assembled from the committed record, in any order; contents as written last.
    with bb.Array.assemble(devices[::-1], store=store) as array:
        assert array.read(0, data.size) == bytes(data[::-1])
    close_all(devices)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize(("level", "count"), [("1", 2), ("5", 3)])
def test_checksums_find_what_a_drive_made_of_the_data(runtime, tmp_path, level, count):
    devices = open_files(runtime, tmp_path, count)
    store = f"file:{tmp_path}/cluster.db"
    data = numpy.random.default_rng(4).integers(0, 256, 1 << 20, dtype=numpy.uint8)
    with bb.Array.create(
        devices, name="m", store=store, assume_clean=True, level=level
    ) as array:
        assert array.state["integrity"] == "crc32c"
        for start in range(0, data.size, 32768):  # parts of stripes stay where they are
            array.write(start, data[start : start + 32768])
        array.flush()
    files = sorted(tmp_path.glob("*.img"))
    at = 1 << 20  # where a member's data begin
    flip(files[0], at + 5000)
    flip(files[1], at + 70000)
    flip(files[1], at + 900000)
    with bb.Array.assemble(devices, store=store) as array:
        assert array.read(0, data.size) == bytes(data)
        report = array.scrub()
        assert report["unrepaired_blocks"] == 0
        errors = [member["checksum_errors"] for member in array.state["members"]]
        assert report["repaired_blocks"] + sum(errors) >= 3
        assert array.scrub()["findings"] == []
        flip(files[0], at + 8192)
        flip(files[1], at + 8192)
        with pytest.raises(bb.CorruptError, match="not what was written"):
            array.read(8192, 4096)
        (finding,) = array.scrub()["findings"]
        assert finding == {"offset_bytes": 8192, "repaired": False}
        assert array.scrub(resume=True)["unrepaired_blocks"] == 1  # none to resume: from the start
        for stop in (array.scrub_pause, array.scrub_cancel):
            with pytest.raises(bb.BadStateError, match="is not being scrubbed"):
                stop()
    with bb.Array.assemble(devices, store=store) as array:
        info = array.scrub_info
        assert (info["state"], info["percent"], len(info["history"])) == ("done", 100, 4)
        assert info["findings"] == info["history"][1]["findings"] == [finding]
    with pytest.raises(bb.InvalidArgumentError, match="there are crc32c and none"):
        bb.Array.create(devices, name="n", store=store, integrity="md5")
    close_all(devices)


@pytest.mark.parametrize(
    ("level", "count", "copies", "lost"),
    [
        ("0", 3, 0, []), ("1E", 3, 0, [1]), ("10", 4, 0, [0, 2]), ("10", 6, 3, [1, 2, 4, 5]),
        ("5", 3, 0, [0]), ("5", 5, 0, [4]), ("6", 4, 0, [1, 2]), ("6", 6, 0, [5]),
    ],
)
def test_levels_in_chunks(runtime, tmp_path, level, count, copies, lost):
    devices = open_files(runtime, tmp_path, count)
    store = f"file:{tmp_path}/cluster.db"
    data = numpy.random.default_rng(3).integers(0, 256, 5 << 20, dtype=numpy.uint8)
    with bb.Array.create(
        devices, name="m", store=store, assume_clean=True, level=level, copies=copies,
        chunk_bytes=16384,
    ) as array:
        state = array.state
        wanted = (level, count, copies or (2 if level in ("1E", "10") else 1), 16384)
        assert (state["level"], state["slots"], state["copies"], state["chunk_bytes"]) == wanted
        in_data = count - {"5": 1, "6": 2}.get(level, 0)
        most = (64 - 1 - 1 / 16) * (1 << 20) * in_data // wanted[2]
        assert 0.95 * most < array.size <= most and array.size % 16384 == 0
        for at in range(0, data.size, 1 << 20):
            array.write(at, data[at:at + (1 << 20)])
        array.flush()
        members = [member["uuid"] for member in state["members"]]
        failed = [members[i] for i in lost]
        for uuid in failed:
            array.fail_member(uuid)
        assert ("degraded" in array.state["state"]) == bool(lost)
        array.write(100_352, data[:300_032])
    data[100_352:400_384] = data[:300_032].copy()
    with bb.Array.assemble(devices[::-1], store=store) as array:
        for at in range(0, data.size, 1 << 20):
            assert array.read(at, 1 << 20) == bytes(data[at:at + (1 << 20)])
        for uuid in failed:
            array.readmit_member(uuid)
        array.wait_clean()
        assert array.state["state"] == "online"
    close_all(devices)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"level": "7"}, bb.InvalidArgumentError, "there are 0, 1, 1E, 5, 6 and 10"),
        ({"level": "6"}, bb.InvalidArgumentError, "3 members, and 4 to 64 are allowed"),
        ({"level": "1E", "copies": 3}, bb.InvalidArgumentError, "2 to 2 are allowed"),
        ({"level": "10", "chunk_bytes": 5000}, bb.InvalidArgumentError, "5000 bytes"),
        ({"chunk_bytes": 65536}, bb.InvalidArgumentError, "RAID 1 has no chunks"),
    ],
)
def test_shapes_that_are_refused(runtime, tmp_path, options, error, text):
    devices = open_files(runtime, tmp_path, 3)
    with pytest.raises(error, match=text):
        bb.Array.create(devices, name="m", store=f"file:{tmp_path}/c.db", **options)
    close_all(devices)


def test_the_last_member_stays(runtime, tmp_path):
    devices = open_files(runtime, tmp_path, 2)
    with bb.Array.create(
        devices, name="m", store=f"file:{tmp_path}/c.db", assume_clean=True
    ) as array:
        first, second = (member["uuid"] for member in array.state["members"])
        array.fail_member(first)
        with pytest.raises(bb.BadStateError):
            array.fail_member(second)
        with pytest.raises(bb.NotFoundError):
            array.fail_member("00000000-0000-4000-8000-000000000000")
        with pytest.raises(bb.InvalidArgumentError, match="not a uuid"):
            array.fail_member("first")
        array.write(0, b"x" * 4096)
    close_all(devices)


def test_refuses_drives_of_another_array(runtime, tmp_path):
    devices = open_files(runtime, tmp_path, 3)
    store = f"file:{tmp_path}/c.db"
    bb.Array.create(devices[:2], name="one", store=store, assume_clean=True).close()
    with pytest.raises(bb.AlreadyExistsError):
        bb.Array.create(devices[1:], name="two", store=store, assume_clean=True)
    bb.Array.assemble(devices[:2], store=store).close()  # unharmed
    close_all(devices)


@pytest.mark.parametrize(
    "count, name, error",
    [
        (0, "m", bb.InvalidArgumentError),
        (1, "m", bb.InvalidArgumentError),
        (2, "", bb.InvalidArgumentError),
        (2, "a/b", bb.InvalidArgumentError),
    ],
)
def test_bad_arguments(runtime, tmp_path, count, name, error):
    devices = open_files(runtime, tmp_path, count)
    with pytest.raises(error):
        bb.Array.create(devices, name=name, store=f"file:{tmp_path}/c.db")
    close_all(devices)


def test_too_small_drives(runtime, tmp_path):
    devices = open_files(runtime, tmp_path, 2, size="512K")
    with pytest.raises(bb.NoSpaceError):
        bb.Array.create(devices, name="m", store=f"file:{tmp_path}/c.db")
    close_all(devices)


@pytest.mark.parametrize(("level", "count"), [("1", 2), ("10", 4), ("5", 3), ("6", 4)])
def test_a_member_is_replaced(runtime, tmp_path, level, count):
    *devices, fresh, small = open_files(runtime, tmp_path, count + 2)
    small.close()
    small = runtime.open(f"file:{tmp_path}/small.img?create=1&size=8M")
    store = f"file:{tmp_path}/cluster.db"
    data = numpy.random.default_rng(5).integers(0, 256, 1 << 20, dtype=numpy.uint8)
    with bb.Array.create(
        devices, name="m", store=store, assume_clean=True, level=level, slow_fail=30
    ) as array:
        array.set_resync_rate(0)
        array.write(0, data)
        old = array.state["members"][0]["uuid"]
        with pytest.raises(bb.NoSpaceError, match="has room for"):
            array.replace_member(old, small)
        small.close()  # it was not taken
        with pytest.raises(bb.AlreadyExistsError):
            array.replace_member(old, devices[1])
        array.replace_member(old, fresh)
        array.wait_clean()
        assert array.state["state"] == "online"
        by_uuid = {member["uuid"]: member for member in array.state["members"]}
        assert by_uuid[old]["state"] == "removed"
        with pytest.raises(bb.NotFoundError, match="has its place"):
            array.replace_member(old, devices[0])
        with pytest.raises(bb.BadStateError, match="arrays or exports use"):
            fresh.close()
        writes = by_uuid[old]["latency"]["write"]
        assert 0 < writes["count"]
        assert writes["p50_ns"] <= writes["p99_ns"] <= writes["max_ns"]
        # Its place may also be empty for a while.
        second = array.state["members"][1]["uuid"]
        array.remove_member(second)
        assert array.read(0, data.size) == bytes(data)
        array.replace_member(second, devices[0], force=True)
        array.wait_clean()
        assert array.state["state"] == "online"
        with pytest.raises(bb.InvalidArgumentError, match="more than the limit"):
            array.set_resync_rate(1 << 20, 1 << 21)
    with bb.Array.assemble([devices[0], *devices[2:], fresh], store=store) as array:
        assert array.state["state"] == "online"
        assert array.read(0, data.size) == bytes(data)
        assert array.scrub()["findings"] == []
    close_all([*devices, fresh])
