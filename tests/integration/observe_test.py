#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What daemons tell about their I/O: `bb io` and /metrics beside what clients report they did.

usage: observe_test.py BUILD_DIR      (exit 77: fio, nbdcopy or a module is missing)
"""
import functools
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import runner
from daemon import running
from tools import require

require("fio", "nbdcopy", modules=("nbd", "prometheus_client"))

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

MS = 1_000_000
UUID = "33333333-3333-4333-8333-333333333333"


def bb(build, control, *words):
    done = subprocess.run([build / "programs" / "bb" / "bb", "--socket", control, *words],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"bb {words}: {done.returncode} {done.stderr}"
    return done.stdout


def slow_records(build, folder, key):
    return json.loads(bb(build, f"{folder}/control", "io", "slow", "-o", "json"))[key]


def serve(build, folder, device):
    return running([build / "programs" / "bb-serve", "--device", device, "--uuid", UUID,
                    "--nbd", f"unix:{folder}/nbd", "--control", f"unix:{folder}/control",
                    "--metrics", "0"],
                   ["ready nbd", "ready metrics", "ready control"])


def nbd_uri(folder):
    return f"nbd+unix:///disk?socket={folder}/nbd"


def nbdsh(folder, script, check=True):
    return subprocess.run([sys.executable, "-m", "nbd", "-u", nbd_uri(folder), "-c", script],
                          capture_output=True, timeout=60, check=check)


def scrape(daemon):
    (address,) = daemon.last_words("ready metrics ")
    with urllib.request.urlopen(f"http://{address[0]}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return told(answer.read().decode())


def told(text):
    """{(name, labels): value}, as somebody else's parser reads the text."""
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def total(samples, name, **labels):
    wanted = set(labels.items())
    return sum(value for (key, having), value in samples.items()
               if key == name and wanted <= set(having))


def test_nbdcopy_counts_are_what_it_copied(build, folder):
    source = pathlib.Path(folder) / "source"
    source.write_bytes(bytes(range(1, 256)) * 4112 + bytes(16))
    size = source.stat().st_size
    with serve(build, folder, f"mem:{size}") as daemon:
        subprocess.run(["nbdcopy", str(source), nbd_uri(folder)], check=True, timeout=60)
        subprocess.run(["nbdcopy", nbd_uri(folder), "null:"], check=True, timeout=60)
        samples = scrape(daemon)
        for op in ("read", "write"):
            moved = total(samples, "bb_export_bytes_total", export="disk", op=op)
            assert moved == size, f"{op}: {moved} bytes, copied {size}"
        again = told(bb(build, f"{folder}/control", "io", "metrics"))
        for key, value in samples.items():
            assert again[key] == value, f"bb io metrics differs: {key}"


def test_fio_counts_are_ours(build, folder):
    with serve(build, folder, "mem:64M") as daemon:
        done = subprocess.run(
            ["fio", "--name=load", "--ioengine=nbd", "--rw=randrw", "--bs=4k", "--iodepth=8",
             "--size=64M", "--number_ios=3000", "--output-format=json",
             f"--uri={nbd_uri(folder)}"],
            capture_output=True, text=True, timeout=120, check=True)
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
        samples = scrape(daemon)
        for op in ("read", "write"):
            ios, size = job[op]["total_ios"], job[op]["io_bytes"]
            assert ios > 0
            for name in ("export", "device"):
                ours = total(samples, f"bb_{name}_commands_total", op=op)
                assert ours == ios, f"{name} {op}: {ours}, fio {ios}"
                assert total(samples, f"bb_{name}_bytes_total", op=op) == size
            counted = total(samples, "bb_export_latency_seconds_count", op=op, stage="total")
            assert counted == ios


def test_an_injected_delay_is_in_its_stage_and_in_the_recorder(build, folder):
    device = "fault:mem:64M?latency=30ms&latency_chance=1&range=0-4096"
    with serve(build, folder, device):
        nbdsh(folder, "h.pread(4096, 8192); h.pread(4096, 0); h.pwrite(bytes(4096), 8192)")
        slow = slow_records(build, folder, "slow")
        worst = max((record for record in slow if record["object"] == "disk"),
                    key=lambda record: record["device_ns"])
        assert (worst["op"], worst["offset_bytes"], worst["length_bytes"]) == ("read", 0, 4096)
        assert worst["device_ns"] >= 29 * MS
        assert worst["device_ns"] > worst["receive_ns"] + worst["send_ns"]
        assert any(record["object"] == device and record["total_ns"] >= 29 * MS
                   for record in slow), "the device's own record"
        table = bb(build, f"{folder}/control", "io", "slow")
        assert "== Slow" in table and "== Failed\n(none)" in table, table


def test_a_client_that_sends_slowly_is_in_the_receive_stage(build, folder):
    """A write whose last byte comes 50 ms after its first: the time is the network's."""
    with serve(build, folder, "mem:1M"), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(f"{folder}/nbd")
        # NBD proto.md: greeting, flags, NBD_OPT_EXPORT_NAME "disk"; then a request by hand.
        assert client.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
        client.sendall((3).to_bytes(4, "big"))
        client.sendall(b"IHAVEOPT" + (1).to_bytes(4, "big") + (4).to_bytes(4, "big") + b"disk")
        client.recv(10, socket.MSG_WAITALL)
        header = (0x25609513).to_bytes(4, "big") + bytes(2) + (1).to_bytes(2, "big") + bytes(16)
        client.sendall(header + (512).to_bytes(4, "big") + b"a" * 256)
        time.sleep(0.05)
        client.sendall(b"b" * 256)
        reply = client.recv(16, socket.MSG_WAITALL)
        assert reply[:8] == (0x67446698).to_bytes(4, "big") + bytes(4), reply
        slow = slow_records(build, folder, "slow")
        (record,) = [one for one in slow if one["op"] == "write" and one["object"] == "disk"]
        assert record["receive_ns"] >= 45 * MS
        assert record["receive_ns"] > record["device_ns"] + record["send_ns"]


def test_failures_carry_their_status(build, folder):
    with serve(build, folder, "fault:mem:1M?write_error=1") as daemon:
        done = nbdsh(folder, "h.pwrite(bytes(512), 1024)", check=False)
        assert done.returncode != 0 and b"Input/output error" in done.stderr, done
        failed = slow_records(build, folder, "failed")
        statuses = {record["object"]: record["status"] for record in failed}
        assert statuses["disk"] == "errno 5"
        assert statuses["fault:mem:1M?write_error=1"].endswith("[io_error]")
        samples = scrape(daemon)
        assert total(samples, "bb_export_errors_total", op="write") == 1
        assert total(samples, "bb_export_commands_total", op="write") == 0


def test_top_shows_a_load_while_it_runs(build, folder):
    control = f"{folder}/control"
    with serve(build, folder, "mem:64M"):
        load = subprocess.Popen(
            ["fio", "--name=load", "--ioengine=nbd", "--rw=randread", "--bs=4k", "--iodepth=4",
             "--size=64M", "--time_based", "--runtime=30", f"--uri={nbd_uri(folder)}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(20):  # until fio has begun
                rows = json.loads(bb(build, control, "io", "top", "-o", "json"))
                if all(row["reads_per_s"] > 0 for row in rows):
                    break
            by_name = {row["object"]: row for row in rows}
            assert by_name.keys() == {"mem:64M", "disk"}
            for row in rows:
                assert row["reads_per_s"] > 0 and row["writes_per_s"] == 0, row
                assert row["p50_ns"] <= row["p99_ns"] <= row["p999_ns"], row
                assert abs(row["bytes_per_s"] / row["reads_per_s"] - 4096) < 1, row
            assert by_name["disk"]["p50_ns"] > 0
            table = bb(build, control, "io", "top", "--once", "--connections")
            assert table.startswith("Connection  Host") and "\nnbd " in table, table
        finally:
            load.kill()
            load.wait()


def test_only_what_is_served_is_told(build, folder):
    """Without --nbd there is no export of NBD to tell of."""
    control = f"{folder}/control"
    with running([build / "programs" / "bb-serve", "--device", "mem:1M", "--uuid", UUID,
                  "--nvme-tcp", "127.0.0.1:0", "--control", f"unix:{control}"],
                 ["ready nvme-tcp", "ready control"]) as daemon:
        ((_, nqn),) = daemon.last_words("export nvme-tcp ")
        rows = json.loads(bb(build, control, "io", "top", "-o", "json"))
        assert {row["object"] for row in rows} == {"mem:1M", nqn}, rows


def test_several_reactors_are_asked_as_one(build, folder):
    """Devices on two threads: all are told of, and changed where they live."""
    control = f"{folder}/control"
    devices = ["mem:1M", "mem:2M", "mem:3M"]
    with running([build / "programs" / "bb-serve", "--reactors", "2",
                  *(word for device in devices for word in ("--device", device)),
                  "--nvme-tcp", "127.0.0.1:0", "--control", f"unix:{control}", "--metrics", "0"],
                 ["ready nvme-tcp", "ready metrics", "ready control"]) as daemon:
        names = [nqn for _, nqn in daemon.last_words("export nvme-tcp ")]
        rows = json.loads(bb(build, control, "io", "top", "-o", "json"))
        assert sorted(row["object"] for row in rows) == sorted(devices + names), rows
        samples = scrape(daemon)
        for name in names:
            assert total(samples, "bb_export_commands_total", export=name) == 0
            bb(build, control, "namespace", "add", "--subsystem", name, "--device", "mem:4M")
        bb(build, control, "ana", "set", "--group", "1", "non-optimized")
        states = json.loads(bb(build, control, "ana", "list", "-o", "json"))
        assert [row["state"] for row in states] == ["non-optimized"], states
        bb(build, control, "namespace", "remove", "--subsystem", names[1], "--nsid", "2")
        listed = json.loads(bb(build, control, "namespace", "list", "-o", "json"))
        have = sorted((row["subsystem"], row["device"]) for row in listed)
        wanted = [*zip(names, devices), (names[0], "mem:4M"), (names[2], "mem:4M")]
        assert have == sorted(wanted), listed
        rows = json.loads(bb(build, control, "io", "top", "-o", "json"))
        assert sum(row["object"] == "mem:4M" for row in rows) == 2, rows


def test_scrapers_that_break_off_do_no_harm(build, folder):
    with serve(build, folder, "mem:1M") as daemon:
        (address,) = daemon.last_words("ready metrics ")
        host, port = address[0].rsplit(":", 1)

        def ask(text, answer):
            with socket.create_connection((host, int(port)), timeout=20) as client:
                client.sendall(text)
                got = client.recv(len(answer), socket.MSG_WAITALL) if answer else b""
                assert got == answer, got

        for _ in range(20):
            ask(b"GET /metr", b"")
            ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"")
        ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200")
        ask(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404")
        assert total(scrape(daemon), "bb_device_commands_total") == 0


if __name__ == "__main__":
    options = runner.parse(runner.parser(), [])
    tests = [functools.update_wrapper(functools.partial(test, options.build), test)
             for name, test in list(globals().items()) if name.startswith("test_")]
    runner.run(tests, options)
