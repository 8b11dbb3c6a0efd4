#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real disk nodes and dataplanes on the loopback: claims, races, restarts, and fio while nodes die.

usage: backplane_test.py BUILD_DIR [--fio-seconds N] [--only NAME]
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from machines import MIB, Dataplane, Node, RpcError, in_sync, wait_for

OPTIONS = None


@contextlib.contextmanager
def machines(folder, node_names, plane_names=("dp",), paths=None):
    nodes = [
        Node(OPTIONS.build, folder, name, paths=(paths or {}).get(name)) for name in node_names
    ]
    planes = [Dataplane(OPTIONS.build, folder, name, nodes) for name in plane_names]
    try:
        for machine in [*nodes, *planes]:
            machine.start()
        yield nodes, planes
        for machine in [*planes, *nodes]:
            machine.stop()
    finally:
        for machine in [*planes, *nodes]:
            if machine.daemon is not None:
                machine.kill()


def expect_error(code, text, function, *arguments, **params):
    try:
        function(*arguments, **params)
    except RpcError as error:
        assert error.code == code and text in error.text, f"expected {code} {text}: {error}"
        return
    raise AssertionError(f"expected {code} \"{text}\", and it worked")


def drive_states(plane):
    return sorted(drive["state"] for drive in plane.call("drive.list")["drives"])


def start_fio(plane, seconds):
    return subprocess.Popen(
        [
            "fio", "--name=verify", "--ioengine=nbd", f"--uri={plane.uri()}", "--rw=randrw",
            "--bsrange=4k-128k", "--iodepth=16", "--size=32m", "--time_based",
            f"--runtime={seconds}", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256",
            "--randrepeat=0",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=plane.config.parent,
    )  # fmt: skip


def kill_and_return(plane, node, away):
    """One disk node dies, comes back, and its member is resynchronised; what that cost."""
    node.kill()
    wait_for(lambda: in_sync(plane.info()) == 2)
    time.sleep(away)
    node.start()
    wait_for(lambda: any(m["state"] == "recovering" for m in plane.info()["members"])
             or in_sync(plane.info()) == 3)
    wait_for(lambda: in_sync(plane.info()) == 3, 60)
    return plane.info()["resync"]


def test_fio_while_nodes_die(folder):
    """0 errors, 0 mismatches; a resync copies what is dirty and no more."""
    torn = f"fault:file:{folder}/torn.img%3Fsize=64M&create=1?torn_write=1/400&count=1&range=4M-60M"
    with open(f"{folder}/torn.img", "wb") as file:
        file.truncate(64 * MIB)
    names = {"n3": [torn.replace("%3Fsize=64M&create=1", "")]}
    with contextlib.ExitStack() as stack:
        nodes = [Node(OPTIONS.build, folder, "n1"), Node(OPTIONS.build, folder, "n2")]
        nodes.append(Node(OPTIONS.build, folder, "n3", size=0, paths=names["n3"]))
        plane = Dataplane(OPTIONS.build, folder, "dp", nodes)
        for machine in [*nodes, plane]:
            stack.callback(lambda m=machine: m.daemon is not None and m.kill())
            machine.start()
        plane.call("array.create", name="db", members=3, region_bytes=MIB, assume_clean=True)
        fio = start_fio(plane, OPTIONS.fio_seconds)
        stack.callback(lambda: fio.poll() is None and fio.kill())
        pause = OPTIONS.fio_seconds / 12
        for node in (nodes[0], nodes[1], nodes[2]):
            time.sleep(pause)
            wait_for(lambda: in_sync(plane.info()) == 3, 60)
            resync = kill_and_return(plane, node, pause)
            print(f"    {node.name} came back: {resync['text']}, {resync}", flush=True)
            # fio writes 32 regions of 62. A torn write may fail n3 again in the middle of its
            # recovery, which then begins anew: twice that at most, and no more than is dirty.
            assert 0 < resync["total_bytes"] <= 64 * MIB, resync
            assert resync["done_bytes"] <= 1.1 * resync["total_bytes"], resync
        output = fio.communicate(timeout=OPTIONS.fio_seconds + 120)[0]
        assert fio.returncode == 0, output
        assert "verify: bad" not in output and "err= 0" in output, output
        wait_for(lambda: in_sync(plane.info()) == 3, 60)
        for machine in [plane, *nodes]:
            machine.stop()


def test_create_and_restart(folder):
    """An array outlives its dataplane, killed or stopped, and its disk nodes."""
    with machines(folder, ["n1", "n2", "n3"]) as (nodes, (plane,)):
        assert drive_states(plane) == ["free"] * 6
        created = plane.call("array.create", name="db", members=3)
        assert len(created["members"]) == 3 and created["domains"] == 3, created
        assert len({member["disk_node"] for member in created["members"]}) == 3
        assert drive_states(plane) == ["free"] * 3 + ["owned"] * 3
        expect_error("already_exists", 'array "db" exists', plane.call, "array.create", name="db")
        expect_error("not_found", 'no array "nope"', plane.call, "array.info", name="nope")
        image = f"{folder}/image"
        with open(image, "wb") as file:
            file.write(os.urandom(8 * MIB))
        subprocess.run(["nbdcopy", "--flush", image, plane.uri()], check=True)
        exports = plane.call("target.list")["targets"]
        assert {one["protocol"] for one in exports} == {"nbd", "nvme-tcp"}, exports
        for end in (plane.stop, plane.kill):
            before = plane.info()["epoch"]
            end()
            plane.start()
            wait_for(lambda: plane.info()["state"].startswith("online"))
            assert plane.info()["epoch"] == before + 1
            assert plane.call("target.list")["targets"] == exports
            back = f"{folder}/back"
            subprocess.run(["nbdcopy", plane.uri(), back], check=True)
            with open(image, "rb") as a, open(back, "rb") as b:
                assert a.read() == b.read(8 * MIB), "other bytes after a restart"
        wait_for(lambda: in_sync(plane.info()) == 3)
        # Start without one of the nodes: degraded, and whole again when it returns.
        plane.stop()
        nodes[1].stop()
        plane.start()
        wait_for(lambda: plane.info()["state"].startswith("online"))
        assert in_sync(plane.info()) == 2, plane.info()
        nodes[1].start()
        wait_for(lambda: in_sync(plane.info()) == 3)


def test_fail_and_readmit(folder):
    with machines(folder, ["n1", "n2"]) as (_, (plane,)):
        plane.call("array.create", name="db", members=2)
        wait_for(lambda: in_sync(plane.info()) == 2)
        expect_error("not_found", "there are n1/0, n2/0", plane.call, "array.fail", name="db",
                     drive="n9/0")
        plane.call("array.fail", name="db", drive="n2/0")
        time.sleep(2.5)  # longer than a drive must be back to be taken back
        assert in_sync(plane.info()) == 1, "what an operator failed came back by itself"
        try:
            plane.call("array.fail", name="db", drive="n1/0")
            raise AssertionError("the last member was failed")
        except RpcError as error:
            assert error.code in ("bad_state", "invalid_argument"), error
        plane.call("array.readmit", name="db", drive="n2/0")
        wait_for(lambda: in_sync(plane.info()) == 2)
        plane.call("array.remove", name="db")
        assert drive_states(plane) == ["free"] * 4
        plane.call("array.create", name="db", members=2)


def test_impossible_query_changes_nothing(folder):
    with machines(folder, ["n1", "n2"]) as (_, (plane,)):
        for params, code, text in [
            ({"members": 3}, "no_space", "needs 3 drives with unique domain, found 2 of 4 visible"),
            ({"query": "select model=X"}, "no_space", "4 select model=X"),
            ({"query": "select modle=X"}, "invalid_argument", 'did you mean "model"?'),
            ({"members": 1}, "invalid_argument", "1 members (2 to 8)"),
            ({"level": 6}, "not_supported", "RAID level 6"),
            ({"membres": 2}, "invalid_argument", "membres"),
        ]:
            expect_error(code, text, plane.call, "array.create", name="db", **params)
        expect_error("invalid_argument", "letters", plane.call, "array.create", name="a b")
        assert drive_states(plane) == ["free"] * 4
        assert plane.call("array.list")["arrays"] == []


def test_race_for_drives(folder):
    """Two dataplanes want the same drives at once: exactly one gets them, nothing is half-done."""
    with machines(folder, ["n1", "n2"], ("dp1", "dp2")) as (nodes, planes):
        for plane in planes:
            wait_for(lambda p=plane: len(p.call("drive.list")["drives"]) == 4)
        results = {}

        def create(plane):
            try:
                query = "select slot=0"
                results[plane.socket] = plane.call("array.create", name="db", members=2,
                                                   query=query)["name"]
            except RpcError as error:
                results[plane.socket] = error

        threads = [threading.Thread(target=create, args=(plane,)) for plane in planes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [p for p in planes if results[p.socket] == "db"]
        assert len(winners) == 1, results
        loser = next(p for p in planes if p is not winners[0])
        assert results[loser.socket].code in ("no_space", "busy"), results
        claims = {drive["id"]: drive["claim"] for node in nodes
                  for drive in node.call("node.info")["drives"]
                  if drive["claim"]["state"] != "free"}
        assert len(claims) == 2, claims
        assert len({claim["owner"] for claim in claims.values()}) == 1, claims
        assert drive_states(loser) == ["foreign", "foreign", "free", "free"]
        # The next match is still free for the other one.
        loser.call("array.create", name="db", members=2)


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
    for path, size in ((small, 8 * MIB), (used, 64 * MIB)):
        with open(path, "wb") as file:
            file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", used], check=True)
    head = "name: n\nlisten: 127.0.0.1:0\ncontrol: 127.0.0.1:0\n"

    def drive(path, more=""):
        return head + f"drives:\n  - {{path: \"{path}\"{more}}}\n"

    plane = f"name: d\nstore: file:{folder}/d.db\ncontrol: unix:{folder}/d.sock\n"
    cases = [
        ("missing file", "disknode", drive(f"{folder}/none.img"), 3, "none.img"),
        ("wrong URI", "disknode", drive("flie:/x"), 2, 'no device scheme "flie"'),
        ("unknown URI option", "disknode", drive(f"file:{small}?drect=1"), 2, "drect"),
        ("too small", "disknode", drive(small), 6, "8388608 bytes is too small"),
        ("too small to create", "disknode", drive(f"{folder}/x.img", ", create: 1M"), 2,
         ".yaml:5: create: 1048576 bytes is too small"),
        ("in use", "disknode", drive(used), 4, "it holds ext4 filesystem"),
        ("locked", "disknode", drive(locked), 4, "busy-0.img"),
        ("port in use", "disknode",
         f"name: n\nlisten: 127.0.0.1:{busy.nvme}\ncontrol: 127.0.0.1:0\n"
         f"drives:\n  - {{path: {folder}/new.img, create: 64M}}\n", 4, str(busy.nvme)),
        ("control port in use", "disknode",
         f"name: n\nlisten: 127.0.0.1:0\ncontrol: 127.0.0.1:{busy.control[1]}\n"
         f"drives:\n  - {{path: {folder}/new.img, create: 64M}}\n", 4, str(busy.control[1])),
        ("public control", "disknode", head.replace("control: 127.0.0.1", "control: 192.0.2.1"), 6,
         "no TLS yet"),
        ("bad YAML", "disknode", "name: [a\nlisten: x\n", 2, ".yaml:2: "),
        ("unknown key", "disknode", head + "drivse: []\n", 2, '.yaml:4: unknown key "drivse"'),
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
                    failures.append(f"{what}: exit {done.returncode} (expected {status}), "
                                    f"expected \"{expected}\" in:\n{done.stderr}")
            except subprocess.TimeoutExpired:
                failures.append(f"{what}: it started")
            if snapshot(folder) != before:
                failures.append(f"{what}: files changed")
        done = subprocess.run([OPTIONS.build / "programs/bb-disknode", "--config", "x",
                               "--nonsense"],
                              capture_output=True, text=True)
        assert done.returncode == 2 and "nonsense" in done.stderr, done
    finally:
        busy.stop()
    assert not failures, "\n".join(failures)


TESTS = [
    test_bad_starts,
    test_impossible_query_changes_nothing,
    test_create_and_restart,
    test_fail_and_readmit,
    test_race_for_drives,
    test_fio_while_nodes_die,
]


def main():
    global OPTIONS
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--fio-seconds", type=int, default=15)
    parser.add_argument("--only", help="run the tests whose name contains this")
    OPTIONS = parser.parse_args()
    OPTIONS.build = OPTIONS.build.resolve()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in ("fio", "nbdcopy", "mke2fs") if shutil.which(tool) is None]
    if missing:
        print(f"skipped: missing {' '.join(missing)}")
        sys.exit(77)
    failed = 0
    for test in TESTS:
        if OPTIONS.only and OPTIONS.only not in test.__name__:
            continue
        folder = tempfile.mkdtemp(prefix="bb-backplane.")
        started = time.monotonic()
        try:
            test(folder)
            print(f"ok   {test.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as problem:  # every test runs, whatever became of the others
            failed += 1
            print(f"FAIL {test.__name__}: {type(problem).__name__}: {problem}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
