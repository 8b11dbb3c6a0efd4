#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bb and healctl against a daemon that answers from a table: what they ask and what they print.

usage: cli_test.py BB HEALCTL
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading

BB, HEALCTL = sys.argv[1:3]
ARRAY = {
    "name": "db", "uuid": "u", "state": "online", "raid": "1.3", "level": "1",
    "explanation": ["All is well."],
    "capacity_bytes": 1 << 30,
    "members_in_sync": 2, "members_wanted": 3, "domains": 3, "query": "", "spread": True,
    "members": [{"drive": "drv-1", "state": "in-sync", "behind_bytes": 0, "place": "node-a/0"}],
    "resync": {"text": "resynced 1MiB of 2MiB dirty"},
    "scrub": {"state": "paused", "text": "paused at 40%: 0 blocks repaired, 0 could not be",
              "done_bytes": 4 << 20, "total_bytes": 10 << 20,
              "history": [{"begun_wall_ns": 10**18, "ended_wall_ns": 10**18 + 10**12,
                           "state": "done", "scheduled": True, "checked_bytes": 10 << 20,
                           "repaired_blocks": 2, "unrepaired_blocks": 0}]},
    "exports": [{"protocol": "nbd", "uri": "nbd://127.0.0.1:1/db"}],
}
DRIVE = {"id": "drv-1", "disk_node": "node-a", "slot": 0, "capacity_bytes": 1 << 30,
         "model": "M", "serial": "S", "state": "free", "array": ""}
ANSWERS = {
    "drive.list": {"drives": [DRIVE]},
    "target.list": {"targets": []},
    "array.list": {"arrays": [ARRAY]},
    "array.info": ARRAY,
    "array.create": ARRAY,
    "array.scrub": ARRAY,
    "array.remove": ["not", "an", "object"],
    "array.stop": {"name": "db", "state": "stopped"},
}
IDLE = {"count": 0, "bytes": 0, "errors": 0, "latency": {}}
HISTOGRAM = {"count": 5, "sum_ns": 60000, "max_ns": 15000, "p50_ns": 12000, "p90_ns": 12000,
             "p99_ns": 12000, "p999_ns": 12000, "buckets": [[12288, 12799, 5]]}
OBJECT = {"type": "device", "name": "mem:1M", "labels": {}, "in_flight": 2, "events": {},
          "read": {**IDLE, "count": 5, "bytes": 5, "latency": {"total": HISTOGRAM}},
          "write": {**IDLE, "errors": 3}, "other": IDLE}
PAGES = {0: [OBJECT], 1: [{**OBJECT, "name": "mem:2M"}]}
RECORD = {"op": "read", "object": "mem:1M", "nsid": 0, "offset_bytes": 4096, "length_bytes": 512,
          "status": "ok", "ended": "2026-11-25T00:00:00.000Z", "age_ns": 1, "receive_ns": 0,
          "device_ns": 1500000, "send_ns": 0, "total_ns": 1500000, "host": ""}
ANSWERS["io.slow"] = {"slow": [RECORD], "failed": []}
asked = []


def serve(listener):
    while True:
        connection = listener.accept()[0]
        request = json.loads(connection.makefile().readline())
        asked.append((request["method"], request["params"]))
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "io.stats":
            page = request["params"]["from"]
            answer["result"] = {"objects": PAGES[page], "taken_ns": len(asked) * 10**9,
                                "next": page + 1 if page + 1 in PAGES else None}
        elif request["method"] in ANSWERS:
            answer["result"] = ANSWERS[request["method"]]
        else:
            data = {"code": "busy", "text": 'array "db": in use', "hint": ""}
            answer["error"] = {"code": -32009, "message": "x", "data": data}
        connection.sendall(json.dumps(answer).encode() + b"\n")
        connection.close()


def run(path, *arguments):
    done = subprocess.run([*arguments], capture_output=True, text=True, check=False, timeout=20,
                          env={**os.environ, "BB_SOCKET": path})
    return done.returncode, done.stdout, done.stderr


def expect(condition, *what):
    if not condition:
        sys.exit(f"failed: {what}")


def check_tables(path):
    code, out, _ = run(path, BB, "drive", "list", "--select", "model=M*", "--reject", "slot=3",
                       "--explain")
    expect(code == 0 and "drv-1" in out and "1GiB" in out and "Refused because" in out, out)
    expect(asked[-1] == ("drive.list", {"query": "select model=M* reject slot=3",
                                        "explain": True}), asked[-1])
    expect(run(path, BB, "drive")[1].startswith("Id"), "list is the default verb")
    expect("(none)" in run(path, BB, "target", "list")[1], "an empty list")
    code, out, _ = run(path, HEALCTL, "list")
    expect(re.search(r"db\s+online\s+1GiB\s+1\.3\s+2/3\s+3\s+nbd", out), out)
    out = run(path, HEALCTL, "info", "db")[1]
    expect(out.startswith("== Array db\n") and "resynced 1MiB of 2MiB dirty" in out, out)
    expect("node-a/0" in out and "nbd://127.0.0.1:1/db" in out, out)
    out = run(path, HEALCTL, "stop", "db")[1]
    expect("stopped" in out, out)


def check_io(path):
    code, out, err = run(path, BB, "io", "top", "--once")
    expect(code == 0, err)
    lines = out.splitlines()
    expect(lines[0].split() == ["Object", "r/s", "w/s", "MB/s", "p50", "p99", "p99.9", "Queue",
                                "Errors"], out)
    # Nothing happened between the looks: no rates, no latencies; both pages are there.
    expect([line.split() for line in lines[2:]] == [
        [name, "0", "0", "0.0", "-", "-", "-", "2", "3"] for name in ("mem:1M", "mem:2M")], out)
    out = run(path, BB, "io", "slow")[1]
    expect(out.startswith("== Slow\n") and out.endswith("\n== Failed\n(none)\n"), out)
    expect("1.50ms" in out and "512B" in out, out)
    out = run(path, BB, "io", "metrics")[1]
    expect('bb_device_commands_total{device="mem:2M",op="read"} 5\n' in out, out)
    for broken in ({**OBJECT, "read": 5}, {**OBJECT, "events": []}, "x"):
        PAGES[1] = [broken]
        code, out, err = run(path, BB, "io", "metrics")
        expect(code == 1 and "the daemon's answer" in err and out == "", code, out, err)


def check_create(path):
    code, out, err = run(path, HEALCTL, "create", "--name", "db", "--raid", "1.3", "--no-spread",
                         "--unique", "enclosure", "--bitmap-chunk", "4MiB", "--assume-clean")
    expect(code == 0 and out.startswith("== Created array db"), out, err)
    expect(asked[-1] == ("array.create", {
        "name": "db", "raid": "1.3", "query": "unique enclosure", "spread": False,
        "region_bytes": 4 << 20, "assume_clean": True}), asked[-1])


def check_formats(path):
    out = run(path, HEALCTL, "list", "-o", "json")[1]
    expect(json.loads(out) == [ARRAY], out)
    out = run(path, HEALCTL, "info", "db", "-o", "yaml")[1]
    expect('state: "online"\n' in out and '  - behind_bytes: 0\n    drive: "drv-1"\n' in out, out)
    out = run(path, HEALCTL, "info", "db", "--explain")[1]
    expect(out == "Array db is online.\n- All is well.\n", out)
    expect(run(path, HEALCTL, "info", "db", "--field", "state")[1] == "online\n", "--field")
    code, _, err = run(path, HEALCTL, "info", "db", "--field", "colour")
    expect(code == 2 and 'no field "colour"' in err, err)


def check_scrub(path):
    for option, action in ((None, {}), ("--start", {"action": "start"}),
                           ("--resume", {"action": "resume"}), ("--pause", {"action": "pause"}),
                           ("--cancel", {"action": "cancel"})):
        code, out, err = run(path, HEALCTL, "scrub", "db", *([option] if option else []))
        expect(code == 0 and "paused at 40%" in out, option, out, err)
        expect(asked[-1] == ("array.scrub", {"name": "db", **action}), option, asked[-1])
    for option in ("--status", "--history"):
        code, out, err = run(path, HEALCTL, "scrub", "db", option)
        expect(code == 0 and "paused at 40%" in out and "schedule" in out, out, err)
        expect("2001-09-0" in out and asked[-1] == ("array.info", {"name": "db"}), out, asked[-1])
    out = run(path, HEALCTL, "scrub", "db", "--status", "-o", "json")[1]
    expect(json.loads(out) == ARRAY["scrub"], out)
    code, _, err = run(path, HEALCTL, "scrub", "db", "--pause", "--cancel")
    expect(code == 2 and "[invalid_argument]" in err, code, err)


def check_failures(path):
    code, out, err = run(path, HEALCTL, "fail", "db", "drv-1")
    expect(code == 4 and out == "", code, out)
    expect(err.startswith('healctl: error: array "db": in use [busy]\nhint: '), err)
    code, _, err = run(path, HEALCTL, "fail", "db", "drv-1", "-o", "json")
    expect(code == 4 and json.loads(err)["code"] == "busy", err)
    code, _, err = run(path, HEALCTL, "remove", "db")
    expect(code == 1 and "[internal]" in err, code, err)
    code, _, err = run(path + ".none", BB, "drive", "list")
    expect(code == 6 and "[unavailable]" in err and "is the daemon running" in err, err)
    for bad in (["list", "--colour"], ["create"], ["fail", "db"], ["dance"], ["list", "-o", "xml"],
                ["create", "--name", "a", "--raid", "x"],
                ["create", "--name", "a", "--raid", "1E.4"],
                ["create", "--name", "a", "--raid", "10.4", "--chunk", "5000"],
                ["create", "--name", "a", "--bitmap-chunk", "x"]):
        code, _, err = run(path, HEALCTL, *bad)
        expect(code == 2 and "[invalid_argument]" in err, bad, code, err)


def check_manuals(path):
    for program, commands in ((BB, ["drive list", "io top"]),
                              (HEALCTL, ["create", "list", "fail"])):
        page = run(path, program, "--man")[1].replace("\\-", "-").replace("\\&", "")
        expect(page.startswith(".TH"), page)
        for command in ["", *commands]:
            text = run(path, program, *command.split(), "--help")[1]
            names = set(re.findall(r"--[a-z-]+", text))
            expect(len(names) >= 1, text)
            for name in names:
                expect(name in page, program, command, name)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/control.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        for check in (check_tables, check_io, check_create, check_formats, check_scrub,
                      check_failures, check_manuals):
            check(path)
            print(check.__name__, "ok")


main()
