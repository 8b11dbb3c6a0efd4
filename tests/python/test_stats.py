# SPDX-License-Identifier: Apache-2.0
"""Statistics through Python, with prometheus_client as the judge of the text."""
import subprocess
import sys
import threading

import numpy
import pytest
from prometheus_client.parser import text_string_to_metric_families

import blockbridge as bb

MS = 1_000_000


def samples(text):
    """{(name, labels...): value} as an independent parser reads it."""
    out = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in out, f"told twice: {key}"
            out[key] = sample.value
    return out


def value(told, name, **labels):
    return told[(name, *sorted(labels.items()))]


def test_counters_and_latency_of_a_device(runtime):
    with runtime.open("mem:16M") as device:
        for i in range(10):
            device.write(i * 4096, bytes(4096))
        device.read(0, 512)
        device.flush()
        counters = device.counters
        assert (counters["writes"], counters["written_bytes"]) == (10, 40960)
        assert (counters["reads"], counters["read_bytes"], counters["others"]) == (1, 512, 1)
        rows = device.latency("write")
        assert rows.dtype == numpy.uint64 and rows.shape[1] == 3
        assert rows[:, 2].sum() == 10
        assert (rows[:, 0] <= rows[:, 1]).all()
        assert device.latency("other", "send").shape == (0, 3)


def test_a_slow_and_a_failed_command_are_recorded(runtime):
    uri = "fault:mem:16M?latency=25ms&latency_chance=1&range=0-4096"
    with runtime.open(uri) as device:
        device.read(8192, 4096)
        device.read(0, 4096)
        stats = device.stats()
        slowest = max(stats["slow"], key=lambda record: record["total_ns"])
        assert slowest["total_ns"] >= 24 * MS
        assert (slowest["op"], slowest["offset_bytes"], slowest["length_bytes"]) == (
            "read", 0, 4096)
        assert slowest["object"] == uri and slowest["status"] == "ok"
        assert stats["failed"] == []
        assert stats["read"]["latency"]["total"]["max_ns"] >= 24 * MS
    with runtime.open("fault:mem:16M?write_error=1") as device:
        with pytest.raises(bb.IoError):
            device.write(4096, bytes(4096))
        (record,) = device.stats()["failed"]
        assert (record["op"], record["offset_bytes"]) == ("write", 4096)
        assert record["status"].endswith("[io_error]")
        assert device.counters["write_errors"] == 1 and device.counters["writes"] == 0


def test_a_device_made_of_a_python_object_is_measured_like_any_other(runtime):
    class Broken:
        def read(self, offset, buffer):
            if offset > 0:
                raise OSError("it broke")

    with runtime.create(Broken(), 1 << 20, name="broken") as device:
        device.read(0, 4096)
        with pytest.raises(bb.IoError):
            device.read(4096, 4096)
        assert (device.counters["reads"], device.counters["read_errors"]) == (1, 1)
        (record,) = device.stats()["failed"]
        assert (record["object"], record["offset_bytes"]) == ("broken", 4096)
        assert value(samples(runtime.metrics()), "bb_device_commands_total",
                     device="broken", op="read") == 1


@pytest.mark.parametrize("kind", ["nvme-tcp", "nbd"])
def test_delays_show_up_in_the_device_stage(runtime, kind):
    uri = "fault:mem:16M?latency=25ms&latency_chance=1"
    with runtime.open(uri) as device, device.export(kind, "127.0.0.1:0", name=name_for(kind)) as e:
        load(e, kind, reads=3)
        stats = e.stats()
        latency = stats["read"]["latency"]
        assert latency["device"]["count"] >= 3
        assert latency["device"]["p50_ns"] >= 24 * MS
        # Not in the other stages: what is left of the total is what they took.
        for stage in ("receive", "send"):
            assert latency[stage]["sum_ns"] < latency["device"]["sum_ns"]
        parts = sum(latency[stage]["sum_ns"] for stage in ("receive", "device", "send"))
        assert parts == latency["total"]["sum_ns"]
        slowest = max(stats["slow"], key=lambda record: record["total_ns"])
        assert slowest["device_ns"] >= 24 * MS and slowest["host"] != ""
        assert slowest["object"] == stats["name"]


def name_for(kind):
    return "disk" if kind == "nbd" else ""


def load(exported, kind, reads):
    """Reads by a client that counts nothing: ours for NVMe/TCP, libnbd for NBD."""
    if kind == "nvme-tcp":
        with bb.Runtime() as other, other.open(exported.uri) as remote:
            for i in range(reads):
                remote.read(i * 4096, 4096)
        return
    script = "".join(f"h.pread(4096, {i * 4096}); " for i in range(reads))
    subprocess.run([sys.executable, "-m", "nbd", "-u", exported.uri, "-c", script], check=True,
                   timeout=60)


@pytest.mark.parametrize("kind", ["nvme-tcp", "nbd"])
def test_failed_commands_of_hosts_are_recorded_with_their_status(runtime, kind):
    with runtime.open("fault:mem:16M?read_error=1") as device, device.export(
        kind, "127.0.0.1:0", name=name_for(kind)
    ) as e:
        with pytest.raises((bb.Error, subprocess.CalledProcessError)):
            load(e, kind, reads=1)
        failed = e.stats()["failed"]
        assert failed and failed[0]["op"] == "read" and failed[0]["length_bytes"] == 4096
        expected = "0x281" if kind == "nvme-tcp" else "errno 5"
        assert expected in failed[0]["status"]
        assert e.counters["read_errors"] == len(failed)


def test_connections_merged_are_the_export(runtime):
    """Two hosts at once: adding up equal buckets of both gives the export's histogram, and the
    export's count is what the hosts did."""
    with runtime.open("mem:16M") as device, device.export("nvme-tcp", "127.0.0.1:0") as e:
        with bb.Runtime() as one, bb.Runtime() as two:
            with one.open(e.uri) as first, two.open(e.uri) as second:
                before = e.counters
                workers = [
                    threading.Thread(target=lambda d=d, n=n: [d.read(0, 4096) for _ in range(n)])
                    for d, n in ((first, 200), (second, 300))
                ]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                stats = e.stats()
                connections = stats["connections"]
                assert len(connections) == e.counters["connections"] == 2
                counts = sorted(c["read"]["count"] for c in connections)
                assert counts[1] - counts[0] == 100
                assert e.counters["reads"] - before["reads"] == 500
                for stage in ("receive", "device", "send", "total"):
                    merged = {}
                    for connection in connections:
                        latency = connection["read"]["latency"][stage]["buckets"]
                        for low, high, count in latency:
                            merged[low, high] = merged.get((low, high), 0) + count
                    whole = stats["read"]["latency"][stage]["buckets"]
                    assert merged == {(low, high): count for low, high, count in whole
}
                    assert stats["read"]["latency"][stage]["sum_ns"] == sum(
                        c["read"]["latency"][stage]["sum_ns"] for c in connections)
        after = e.counters  # the hosts have gone: the export remembers them
        assert after["reads"] == stats["read"]["count"]
        assert after["connections"] == 0


def test_an_independent_parser_reads_the_metrics(runtime):
    with runtime.open("mem:16M") as device, device.export("nvme-tcp", "127.0.0.1:0") as e:
        with bb.Runtime() as other, other.open(e.uri) as remote:
            for i in range(50):
                remote.write(i * 4096, bytes(4096))
            told = samples(runtime.metrics())
            nqn = e.uri.split("/", 3)[3]
            assert value(told, "bb_export_commands_total", export=nqn, op="write") == 50
            assert value(told, "bb_export_bytes_total", export=nqn, op="write") == 50 * 4096
            assert value(told, "bb_device_bytes_total", device="mem:16M", op="write") == 50 * 4096
            assert value(told, "bb_export_in_flight", export=nqn) == 0
            buckets = sorted(
                (float(dict(key[1:])["le"]), count)
                for key, count in told.items()
                if key[0] == "bb_export_latency_seconds_bucket"
                and dict(key[1:])["op"] == "write" and dict(key[1:])["stage"] == "total"
            )
            counts = [count for _, count in buckets]
            assert counts == sorted(counts) and counts[-1] == 50
            assert buckets[-1][0] == float("inf")
            latency = e.stats()["write"]["latency"]["total"]
            for le, count in buckets[:-1]:
                exact = sum(n for _, high, n in latency["buckets"] if high <= round(le * 1e9))
                assert count == exact
            assert value(told, "bb_export_latency_seconds_sum", export=nqn, op="write",
                         stage="total") == pytest.approx(latency["sum_ns"] / 1e9)
            remote_told = samples(other.metrics())
            uri = e.uri
            assert value(remote_told, "bb_device_events_total", device=uri,
                         event="reconnects") == 0


def test_labels_with_quotes_and_backslashes_survive_the_parser(runtime, tmp_path):
    path = tmp_path / 'a "quoted" \\ name'
    with runtime.open(f"file:{path}?create=1&size=1M") as device:
        device.write(0, bytes(512))
        told = samples(runtime.metrics())
        names = {dict(key[1:]).get("device") for key in told}
        assert f"file:{path}" in names
