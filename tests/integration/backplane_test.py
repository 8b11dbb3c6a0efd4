#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real disk nodes and dataplanes on the loopback: claims, races, restarts, and fio while nodes die.

usage: backplane_test.py BUILD_DIR [--fio-seconds N] [--only NAME]
"""
import contextlib
import os
import random
import subprocess
import threading
import time

import runner
from machines import MIB, Dataplane, Node, RpcError, drive_states, expect_error, in_sync, wait_for
from machines import machines as start_machines

OPTIONS = None


def machines(*arguments, **options):
    return start_machines(OPTIONS.build, *arguments, **options)


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


def tear_a_write(image):
    """What a node that loses power leaves: half of a block that was being written is something."""
    with open(image, "r+b") as file:
        file.seek(random.randrange(4 * MIB, 30 * MIB, 4096) + 2048)
        file.write(os.urandom(2048))


def kill_and_return(plane, node, away, torn=None):
    """One disk node dies, comes back, and its member is resynchronised; what that cost."""
    before = plane.info()
    node.kill()
    if torn:
        tear_a_write(torn)
    wait_for(lambda: in_sync(plane.info()) == 2)
    time.sleep(away)
    node.start()
    wait_for(
        lambda: any(m["state"] == "recovering" for m in plane.info()["members"])
        or in_sync(plane.info()) == 3
    )
    after = wait_for(lambda: in_sync(plane.info()) == 3 and plane.info(), 60)
    # Failed, readmitted, in-sync again: three versions for each recovery, one that began anew two.
    recoveries = (after["version"] - before["version"] + 2) // 3
    written = after["resync"]["written_bytes"] - before["resync"]["written_bytes"]
    print(f"    {node.name} came back: {after['resync']['text']}; {recoveries} recoveries wrote "
          f"{written // MIB} MiB", flush=True)  # fmt: skip
    return recoveries, written


def test_fio_while_nodes_die(folder):
    """0 errors, 0 mismatches; a resync copies what is dirty and no more."""
    image = f"{folder}/torn.img"
    with open(image, "wb") as file:
        file.truncate(64 * MIB)
    # One write of n3 is torn while the node lives on, once before and once after it was killed.
    torn = f"fault:file:{image}?torn_write=1/400&count=1&range=4M-60M"
    with contextlib.ExitStack() as stack:
        nodes = [Node(OPTIONS.build, folder, "n1"), Node(OPTIONS.build, folder, "n2")]
        nodes.append(Node(OPTIONS.build, folder, "n3", size=0, paths=[torn]))
        plane = Dataplane(OPTIONS.build, folder, "dp", nodes)
        for machine in [*nodes, plane]:
            stack.callback(lambda m=machine: m.daemon is not None and m.kill())
            machine.start()
        plane.call("array.create", name="db", raid="1.3", region_bytes=MIB, assume_clean=True)
        fio = start_fio(plane, OPTIONS.fio_seconds)
        stack.callback(lambda: fio.poll() is None and fio.kill())
        pause = OPTIONS.fio_seconds / 12
        for node in nodes:
            time.sleep(pause)
            wait_for(lambda: in_sync(plane.info()) == 3, 60)
            recoveries, written = kill_and_return(
                plane, node, pause, torn=image if node is nodes[2] else None
            )
            # fio writes to 32 regions of 1 MiB; a torn write of n3 may add recoveries of its own.
            assert 0 < written <= 1.1 * recoveries * 32 * MIB, (recoveries, written)
        output = fio.communicate(timeout=OPTIONS.fio_seconds + 120)[0]
        assert fio.returncode == 0, output
        assert "verify: bad" not in output and "err= 0" in output, output
        wait_for(lambda: in_sync(plane.info()) == 3, 60)
        version = plane.info()["version"]
        assert version > 10, f"version {version}: three kills, and no write was torn"
        for machine in [plane, *nodes]:
            machine.stop()


def test_fio_on_stripes_while_two_nodes_die(folder):
    """RAID 10 and 6 of four disk nodes: two may be away at once; of pairs, one each."""
    for raid, level, copies in (("10.4", "10", 2), ("6.4", "6", 1)):
        fio_while_two_nodes_die(f"{folder}/{level}", raid, (level, copies))


def fio_while_two_nodes_die(folder, raid, expected):
    os.mkdir(folder)
    with machines(folder, ["n1", "n2", "n3", "n4"]) as (nodes, (plane,)):
        created = plane.call("array.create", name="db", raid=raid, chunk_bytes=16384)
        assert (created["raid"], created["level"], created["copies"]) == (raid, *expected), created
        members = sorted(created["members"], key=lambda member: member["member_slot"])
        at = {node.name: node for node in nodes}
        with contextlib.ExitStack() as stack:
            fio = start_fio(plane, 12)
            stack.callback(lambda: fio.poll() is None and fio.kill())
            for pair in ((0, 2), (1, 3)):
                away = [at[members[slot]["disk_node"]] for slot in pair]
                for node in away:
                    node.kill()
                wait_for(lambda: in_sync(plane.info()) == 2)
                time.sleep(1)
                for node in away:
                    node.start()
                wait_for(lambda: in_sync(plane.info()) == 4, 60)
            output = fio.communicate(timeout=120)[0]
            assert fio.returncode == 0, output
            assert "verify: bad" not in output and "err= 0" in output, output


def test_create_and_restart(folder):
    """An array outlives its dataplane, killed or stopped, and its disk nodes."""
    with machines(folder, ["n1", "n2", "n3"]) as (nodes, (plane,)):
        assert drive_states(plane) == ["free"] * 6
        created = plane.call("array.create", name="db", raid="1.3")
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
        plane.call("array.create", name="db", raid="1.2")
        wait_for(lambda: in_sync(plane.info()) == 2)
        expect_error(
            "not_found", "there are n1/0, n2/0", plane.call, "array.fail", name="db", drive="n9/0"
        )
        plane.call("array.fail", name="db", drive="n2/0")
        time.sleep(2.5)  # longer than a drive must be back to be taken back
        reasons = plane.info()["explanation"]
        assert "1 of 2 members of this RAID 1.2 are in-sync: none" in reasons[0], reasons
        assert any("has failed, since version" in reason for reason in reasons), reasons
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
        plane.call("array.create", name="db", raid="1.2")


def test_scrub_mends_what_rotted(folder):
    for raid, count in (("1.2", 2), ("5.3", 3)):
        nodes = [f"n{i + 1}" for i in range(count)]
        os.makedirs(f"{folder}/{raid}")
        with machines(f"{folder}/{raid}", nodes) as (_, (plane,)):
            scrub_mends_what_rotted(f"{folder}/{raid}", plane, raid, count)


def scrub_mends_what_rotted(folder, plane, raid, count):
    plane.call("array.create", name="db", raid=raid)
    wait_for(lambda: in_sync(plane.info()) == count and plane.info()["state"] == "online")
    assert plane.info()["integrity"] == "crc32c"
    assert plane.info()["scrub"]["state"] == "never"
    used = {member["place"] for member in plane.info()["members"]}
    for place, offset in zip(sorted(used)[:2], (5 << 20, 6 << 20), strict=True):
        with open(f"{folder}/{place.replace('/', '-')}.img", "r+b") as image:
            image.seek(offset)  # of data: zeroes
            image.write(b"rotten")
    plane.call("array.scrub", name="db")
    wait_for(lambda: plane.info()["scrub"]["state"] == "done")
    scrub = plane.info()["scrub"]
    assert scrub["text"] == "2 blocks repaired, 0 could not be", scrub
    assert [finding["repaired"] for finding in scrub["findings"]] == [True, True], scrub
    plane.call("array.scrub", name="db")
    wait_for(lambda: plane.info()["scrub"]["state"] == "done")
    assert plane.info()["scrub"]["repaired_blocks"] == 0


def scrub_of(plane):
    return plane.info().get("scrub", {})


def test_scrub_outlives_its_dataplane(folder):
    with machines(folder, ["n1", "n2"]) as (_, (plane,)):
        config = plane.config.read_text()
        plane.call("array.create", name="db", raid="1.2")
        wait_for(lambda: in_sync(plane.info()) == 2 and plane.info()["state"] == "online")
        expect_error("bad_state", "is not being scrubbed", plane.call, "array.scrub", name="db",
                     action="pause")
        expect_error("invalid_argument", "there are start", plane.call, "array.scrub", name="db",
                     action="faster")
        plane.stop()
        plane.config.write_text(config + "scrub: {rate: 2MiB}\n")
        plane.start()
        wait_for(lambda: plane.info()["state"] == "online")
        plane.call("array.scrub", name="db")
        # At 2 MiB each second the place has been written down then, in the latest 10 s.
        wait_for(lambda: scrub_of(plane)["done_bytes"] > 24 * MIB, 120)
        assert scrub_of(plane)["state"] == "running", scrub_of(plane)
        begun = scrub_of(plane)["begun_wall_ns"]
        plane.kill()
        plane.start()
        scrub = wait_for(lambda: scrub_of(plane).get("state") == "running" and scrub_of(plane))
        assert scrub["begun_wall_ns"] == begun and scrub["done_bytes"] >= 2 * MIB, scrub
        plane.call("array.scrub", name="db", action="pause")
        wait_for(lambda: scrub_of(plane)["state"] == "paused")
        plane.stop()
        plane.config.write_text(config)
        plane.start()
        wait_for(lambda: scrub_of(plane).get("state") == "paused")
        plane.call("array.scrub", name="db")
        wait_for(lambda: scrub_of(plane)["state"] == "done")
        scrub = scrub_of(plane)
        assert scrub["begun_wall_ns"] == begun and scrub["checked_bytes"] == scrub["total_bytes"]
        plane.stop()
        plane.config.write_text(config + "scrub: {every: 1s}\n")
        plane.start()
        history = wait_for(lambda: len(scrub_of(plane).get("history", ())) > 1
                           and scrub_of(plane)["history"])
        assert [run["scheduled"] for run in history][-2:] == [True, False], history
        assert history[-1]["begun_wall_ns"] == begun, history


def test_impossible_query_changes_nothing(folder):
    with machines(folder, ["n1", "n2"]) as (_, (plane,)):
        for params, code, text in [
            (
                {"raid": "1.3"},
                "no_space",
                "needs 3 drives with unique domain, found 2 of 4 visible",
            ),
            ({"query": "select model=X"}, "no_space", "4 select model=X"),
            ({"query": "select modle=X"}, "invalid_argument", 'did you mean "model"?'),
            ({"raid": "1.1"}, "invalid_argument", "1 members, and 2 to 8 are allowed"),
            ({"raid": "7.4"}, "invalid_argument", "LEVEL.MEMBERS[.COPIES] is wanted"),
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
                results[plane.socket] = plane.call(
                    "array.create", name="db", raid="1.2", query=query
                )["name"]
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
        claims = {
            drive["id"]: drive["claim"]
            for node in nodes
            for drive in node.call("node.info")["drives"]
            if drive["claim"]["state"] != "free"
        }
        assert len(claims) == 2, claims
        assert len({claim["owner"] for claim in claims.values()}) == 1, claims
        assert drive_states(loser) == ["foreign", "foreign", "free", "free"]
        # The next match is still free for the other one.
        loser.call("array.create", name="db", raid="1.2")


TESTS = [
    test_impossible_query_changes_nothing,
    test_create_and_restart,
    test_fail_and_readmit,
    test_scrub_mends_what_rotted,
    test_scrub_outlives_its_dataplane,
    test_race_for_drives,
    test_fio_while_nodes_die,
    test_fio_on_stripes_while_two_nodes_die,
]


def main():
    global OPTIONS
    parser = runner.parser()
    parser.add_argument("--fio-seconds", type=int, default=15)
    OPTIONS = runner.parse(parser, ("fio", "nbdcopy"))
    runner.run(TESTS, OPTIONS)


if __name__ == "__main__":
    main()
