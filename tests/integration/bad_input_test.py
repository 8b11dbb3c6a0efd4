#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Wrong input to real daemons: each has its code and its text, and nothing is changed by it.

usage: bad_input_test.py BUILD_DIR [--only NAME]
"""
import contextlib
import os
import pathlib
import subprocess
import time

import runner
from machines import MIB, Dataplane, Node, RpcError, drive_states, expect_error, in_sync, wait_for
from machines import machines as start_machines

OPTIONS = None
MEMBER_BYTES = 64 * MIB


def machines(*arguments, **options):
    return start_machines(OPTIONS.build, *arguments, **options)


@contextlib.contextmanager
def small_file_system(folder, size, full=False):
    """A tmpfs of `size`; full: a file takes all of it."""
    os.makedirs(folder)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
                          capture_output=True, text=True)  # fmt: skip
    if made.returncode != 0:
        yield None
        return
    try:
        if full:
            fill(folder)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    with open(f"{folder}/filler", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))


def sparse(path, size=MEMBER_BYTES):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def snapshot(folder):
    return {
        str(path): (path.stat().st_size, path.stat().st_blocks)
        for path in sorted(pathlib.Path(folder).rglob("*.img"))
    }


def bad_starts(folder):
    """(what, program, configuration, exit status, text on stderr)"""
    busy = Node(OPTIONS.build, folder, "busy", drives=1)
    busy.start()
    small, used, locked = f"{folder}/small.img", f"{folder}/used.img", f"{folder}/busy-0.img"
    sparse(small, 8 * MIB)
    sparse(used)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", used], check=True)
    head = "name: n\nlisten: 127.0.0.1:0\ncontrol: 127.0.0.1:0\n"

    def drive(path, more=""):
        return head + f'drives:\n  - {{path: "{path}"{more}}}\n'

    plane = f"name: d\nstore: file:{folder}/d.db\ncontrol: unix:{folder}/d.sock\n"
    cases = [
        ("missing file", "disknode", drive(f"{folder}/none.img"), 3, "none.img"),
        ("wrong URI", "disknode", drive("flie:/x"), 2, 'no device scheme "flie"'),
        ("unknown URI option", "disknode", drive(f"file:{small}?drect=1"), 2, "drect"),
        ("too small", "disknode", drive(small), 6, "8388608 bytes is too small"),
        (
            "too small to create",
            "disknode",
            drive(f"{folder}/x.img", ", create: 1M"),
            2,
            ".yaml:5: create: 1048576 bytes is too small",
        ),
        ("in use", "disknode", drive(used), 4, "it holds ext4 filesystem"),
        ("locked", "disknode", drive(locked), 4, "busy-0.img"),
        (
            "port in use",
            "disknode",
            f"name: n\nlisten: 127.0.0.1:{busy.nvme}\ncontrol: 127.0.0.1:0\n"
            f"drives:\n  - {{path: {folder}/new.img, create: 64M}}\n",
            4,
            str(busy.nvme),
        ),
        (
            "control port in use",
            "disknode",
            f"name: n\nlisten: 127.0.0.1:0\ncontrol: 127.0.0.1:{busy.control[1]}\n"
            f"drives:\n  - {{path: {folder}/new.img, create: 64M}}\n",
            4,
            str(busy.control[1]),
        ),
        (
            "public control",
            "disknode",
            head.replace("control: 127.0.0.1", "control: 192.0.2.1"),
            6,
            "no TLS yet",
        ),
        ("bad YAML", "disknode", "name: [a\nlisten: x\n", 2, ".yaml:2: "),
        ("unknown key", "disknode", head + "drivse: []\n", 2, '.yaml:4: unknown key "drivse"'),
        (
            "the same file twice",
            "disknode",
            head + f"drives:\n  - {{path: {small}}}\n  - {{path: {small}}}\n",
            2,
            ".yaml:6: path: file:",
        ),
        ("device full", "disknode", drive("fault:mem:64M?write_error=1"), 1, "write"),
        ("bad store", "dataplane", plane.replace("file:", "flie:"), 2, "flie"),
        ("store elsewhere", "dataplane", plane.replace("file:", "file:/nowhere"), 3, "/nowhere"),
        ("bad host", "dataplane", plane + "host: me\n", 2, ".yaml:4: host: "),
    ]
    return cases, busy


def test_bad_starts(folder):
    """Each wrong start has its exit status and its text, and changes no drive."""
    cases, busy = bad_starts(folder)
    failures = []
    try:
        for what, program, text, status, expected in cases:
            config = pathlib.Path(folder, "case.yaml")
            config.write_text(text)
            before = snapshot(folder)
            command = [str(OPTIONS.build / f"programs/bb-{program}"), "--config", str(config)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=20)
                if done.returncode != status or expected not in done.stderr:
                    failures.append(
                        f"{what}: exit {done.returncode} (expected {status}), "
                        f'expected "{expected}" in:\n{done.stderr}'
                    )
            except subprocess.TimeoutExpired:
                failures.append(f"{what}: it started")
            if snapshot(folder) != before:
                failures.append(f"{what}: files changed")
    finally:
        busy.stop()
    assert not failures, "\n".join(failures)


def test_bad_serve(folder):
    """Wrong command lines of bb-serve and the others."""
    build = OPTIONS.build / "programs"
    uuid = "12345678-1234-4234-8234-123456789abc"
    busy = Node(OPTIONS.build, folder, "busy", drives=1)
    busy.start()
    cases = [
        (["bb-serve"], 2, "--device"),
        (["bb-serve", "--device", "mem:1M", "--nonsense"], 2, "nonsense"),
        (["bb-disknode", "--config", "x", "--nonsense"], 2, "nonsense"),
        (["bb-dataplane", "--config", "x", "--nonsense"], 2, "nonsense"),
        (["healctl/healctl", "frobnicate"], 2, "frobnicate"),
        (["bb/bb", "drive", "frobnicate"], 2, "frobnicate"),
        (["bb-serve", "--device", "mem:1X", "--nbd", "127.0.0.1:0"], 2, "1X"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--reservations", folder],
         2, "needs a --uuid for each --device: 0 of 1"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--uuid", uuid,
          "--reservations", f"{folder}/none"], 3, "none"),
        (["bb-serve", "--device", f"file:{folder}/none", "--nbd", "127.0.0.1:0"], 3, "none"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", f"127.0.0.1:{busy.nvme}"], 4,
         str(busy.nvme)),
        (["bb-serve", "--device", "mem:1M", "--nbd", f"127.0.0.1:{busy.nvme}"], 4,
         str(busy.nvme)),
        (["bb-serve", "--device", "mem:1M", "--device", "mem:1M", "--uuid", uuid, "--uuid", uuid,
          "--nvme-tcp", "127.0.0.1:0"], 4, uuid),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--nvme-queue-depth",
          "1"], 2, "I/O queue depth: 1 entries, and 2 to 4096 are allowed"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--reactors", "0"], 2,
         "--reactors"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--one-subsystem",
          "--reactors", "2"], 6, "--reactors: a subsystem is served by one"),
        (["bb-serve", "--device", "mem:1M", "--nvme-tcp", "127.0.0.1:0", "--nvme-transfer",
          "100K"], 2, "transfer: 102400 bytes are not a power of two"),
    ]  # fmt: skip
    failures = []
    try:
        for command, status, text in cases:
            try:
                done = subprocess.run([build / command[0], *command[1:]], capture_output=True,
                                      text=True, timeout=10)  # fmt: skip
                if done.returncode != status or text not in done.stderr:
                    failures.append(f"{' '.join(command)}: exit {done.returncode}, not {status};"
                                    f' expected "{text}" in:\n{done.stderr}')  # fmt: skip
            except subprocess.TimeoutExpired:
                failures.append(f"{' '.join(command)}: it started")
    finally:
        busy.stop()
    assert not failures, "\n".join(failures)


def start_fails(program, config, status, text):
    done = subprocess.run([OPTIONS.build / f"programs/bb-{program}", "--config", config],
                          capture_output=True, text=True, timeout=20)  # fmt: skip
    assert (
        done.returncode == status and text in done.stderr
    ), f'exit {done.returncode} (expected {status}), expected "{text}" in:\n{done.stderr}'


def test_full_and_read_only_files(folder):
    """The label of a drive cannot be written: refused, and the file is as it was."""
    with small_file_system(f"{folder}/full", "1m") as full:
        if full is None:
            return "skipped: a file system cannot be mounted here"
        sparse(f"{full}/a.img")
        fill(full)
        before = os.stat(f"{full}/a.img").st_blocks
        node = Node(OPTIONS.build, folder, "n", size=0, paths=[f"{full}/a.img"])
        start_fails("disknode", node.config, 6, "No space left on device")
        assert os.stat(f"{full}/a.img").st_blocks == before
        subprocess.run(["mount", "-o", "remount,ro", full], check=True)
        start_fails("disknode", node.config, 5, "Read-only file system")
    return ""


def test_store_on_a_full_disk(folder):
    """What cannot be recorded is not done: no array, no claim."""
    with small_file_system(f"{folder}/full", "1m") as full:
        if full is None:
            return "skipped: a file system cannot be mounted here"
        with machines(folder, ["n1", "n2"], ()) as (nodes, _):
            plane = Dataplane(OPTIONS.build, full, "dp", nodes)
            plane.start()
            try:
                wait_for(lambda: len(plane.call("drive.list")["drives"]) == 4)
                fill(full)
                try:
                    plane.call("array.create", name="db", raid="1.2")
                    raise AssertionError("created, and nothing could be stored")
                except RpcError as error:
                    assert error.code in ("no_space", "io_error"), error
                    assert "full" in error.text, error
                assert plane.call("array.list")["arrays"] == []
                os.unlink(f"{full}/filler")
                wait_for(lambda: drive_states(plane) == ["free"] * 4)
                plane.call("array.create", name="db", raid="1.2")
                wait_for(lambda: in_sync(plane.info()) == 2)
                plane.stop()
            finally:
                if plane.daemon is not None:
                    plane.kill()
    return ""


def test_drive_on_a_full_disk(folder):
    """A thin file whose file system is full: its member leaves, the host sees nothing of it."""
    with small_file_system(f"{folder}/full", "6m") as full:
        if full is None:
            return "skipped: a file system cannot be mounted here"
        paths = {"n2": [sparse(f"{full}/a.img")]}
        nodes = [Node(OPTIONS.build, folder, "n1")]
        nodes.append(Node(OPTIONS.build, folder, "n2", size=0, paths=paths["n2"]))
        plane = Dataplane(OPTIONS.build, folder, "dp", nodes)
        try:
            for machine in [*nodes, plane]:
                machine.start()
            plane.call("array.create", name="db", raid="1.2", assume_clean=True)
            image, back = f"{folder}/image", f"{folder}/back"
            with open(image, "wb") as file:
                file.write(os.urandom(12 * MIB))
            subprocess.run(["nbdcopy", "--flush", image, plane.uri()], check=True)
            wait_for(lambda: in_sync(plane.info()) == 1)
            lost = next(m for m in plane.info()["members"] if m["state"] != "in-sync")
            assert lost["disk_node"] == "n2", lost
            subprocess.run(["nbdcopy", plane.uri(), back], check=True)
            with open(image, "rb") as a, open(back, "rb") as b:
                assert a.read() == b.read(12 * MIB), "other bytes on the member that stayed"
            for machine in [plane, *nodes]:
                machine.stop()
        finally:
            for machine in [plane, *nodes]:
                if machine.daemon is not None:
                    machine.kill()
    return ""


def created(plane):
    """False while the dataplane has not yet found the restarted disk node."""
    try:
        plane.call("array.create", name="db", raid="1.2", assume_clean=True)
    except RpcError as error:
        assert error.code == "no_space", error  # offline, or failed as it was before the restart
        return False
    return drive_states(plane) == ["owned"] * 2


def one_superblock_error(folder, after, area):
    """Creates an array while one metadata write of n2's drive fails; True: the fault was hit."""
    name = f"{area[0]}{after}"
    home = f"{folder}/{name}"
    os.makedirs(home)
    image = sparse(f"{home}/n2.img")
    fault = f"fault:file:{image}?write_error=1&count=1&after={after}&range={area[1]}"
    nodes = [Node(OPTIONS.build, home, "n1", drives=1)]
    nodes.append(Node(OPTIONS.build, home, "n2", size=0, paths=[fault]))
    plane = Dataplane(OPTIONS.build, home, "dp", nodes)
    try:
        nodes[0].start()
        try:
            nodes[1].start()
        except AssertionError as refused:  # the label itself: the node does not publish the drive
            assert "injected error" in str(refused), refused
            return True
        plane.start()
        wait_for(lambda: len(plane.call("drive.list")["drives"]) == 2)
        hit = False
        try:
            plane.call("array.create", name="db", raid="1.2", assume_clean=True)
        except RpcError as error:
            hit = True
            assert error.code in ("io_error", "no_space"), error
            assert "injected error" in error.text or "write fault" in error.text, error
            assert plane.call("array.list")["arrays"] == [], f"after write {after}: an array"
            # A drive with a write error is not chosen again; what is on it claims nothing.
            nodes[1].stop()
            nodes[1].config.write_text(nodes[1].config.read_text().replace(fault, image))
            nodes[1].start()
            wait_for(lambda: created(plane))
        wait_for(lambda: in_sync(plane.info()) == 2)
        for machine in [plane, *nodes]:
            machine.stop()
        return hit
    finally:
        for machine in [plane, *nodes]:
            if machine.daemon is not None:
                machine.kill()


def test_every_metadata_write_fails_once(folder):
    """EIO at the n-th write of label, claim, superblock or bitmap while an array is created."""
    hits = 0
    end = MEMBER_BYTES // MIB
    for area in (("front", "0-2M"), ("behind", f"{end - 1}M-{end}M")):
        after, misses = 0, 0
        while misses < 3:  # a later write of the running array may still be hit, unseen by us
            try:
                hit = one_superblock_error(folder, after, area)
            except Exception as problem:
                raise AssertionError(f"{area[0]}, after {after} writes: {problem}") from problem
            misses = 0 if hit else misses + 1
            hits += hit
            after += 1
    # Two copies each of label, claim and superblock, and the bitmap.
    assert hits >= 7, f"only {hits} writes were hit"
    return f"{hits} writes"


TESTS = [
    test_bad_starts,
    test_bad_serve,
    test_full_and_read_only_files,
    test_store_on_a_full_disk,
    test_drive_on_a_full_disk,
    test_every_metadata_write_fails_once,
]


if __name__ == "__main__":
    OPTIONS = runner.parse(runner.parser(), ("nbdcopy", "mke2fs"))
    runner.run(TESTS, OPTIONS)
