# SPDX-License-Identifier: Apache-2.0
"""Reservations of two stock hosts, by nvme-cli: conflicts, a killed target, preemption."""
import json

CONFLICT = "Reservation Conflict"
# What a host says while its target is killed and comes back.
RECONNECTING = [
    r"Reservation Conflict",
    r"starting error recovery",
    r"failed to (send|recv|connect)",
    r"Reconnecting in",
    r"Failed reconnect attempt",
    r"Successfully reconnected",
    r"creating \d+ I/O queues|mapped \d+/\d+/\d+",
    r"no usable path - requeuing I/O",
    r"Broken pipe|keep-alive",
]
_BLOCK = "head -c 4096 /dev/urandom >/tmp/block\n"


def write(guest, disk):
    """Exit code and output of a write that passes by no cache."""
    return guest.call(_BLOCK + f"nvme write {disk} -s 0 -c 7 -z 4096 -d /tmp/block 2>&1")


def report(guest, disk):
    output = guest.run(f"nvme resv-report {disk} -e -o json")
    return json.loads(output[output.index("{") :])


def _refused(result, what):
    code, output = result
    assert code != 0 and CONFLICT in output, f"{what}: exit code {code}: {output}"


def _allowed(result, what):
    code, output = result
    assert code == 0, f"{what}: exit code {code}: {output}"


def conflict(holder, other, disks):
    """The first registers, to last, and reserves; the second sees it and may only read."""
    mine, theirs = disks
    holder.run(
        f"nvme resv-register {mine} --nrkey=0x11 --rrega=0 --cptpl=3\n"
        f"nvme resv-acquire {mine} --crkey=0x11 --rtype=1 --racqa=0"
    )
    _refused(
        other.call(f"nvme resv-acquire {theirs} --crkey=0x22 --rtype=1 --racqa=0 2>&1"),
        "acquired by a host that is not registered",
    )
    other.run(f"nvme resv-register {theirs} --nrkey=0x22 --rrega=0")
    _allowed(write(holder, mine), "the holder writes")
    _refused(write(other, theirs), "another writes")
    other.run(f"nvme read {theirs} -s 0 -c 7 -z 4096 -d /tmp/r")
    _holds(report(other, theirs), 0x11)


def _holds(seen, key):
    assert seen["rtype"] == 1 and seen["regctl"] == 2 and seen["ptpls"] == 1, seen
    registered = next(value for value in seen.values() if isinstance(value, list))
    holders = [one["rkey"] for one in registered if one["rcsts"] & 1]
    assert holders == [key], seen


def after_a_crash(other, disk):
    """The target was killed: who held it holds it still."""
    other.run(
        f"n=0; until nvme read {disk} -s 0 -c 7 -z 4096 -d /tmp/r 2>/dev/null; do\n"
        "n=$((n + 1)); [ $n -lt 150 ] || exit 1; sleep 0.2; done",
        60,
    )
    _holds(report(other, disk), 0x11)
    _refused(write(other, disk), "another writes after the crash")


def preempt(loser, winner, disks):
    """The second takes the reservation; the first may not write, and is told."""
    lost, won = disks
    winner.run(f"nvme resv-acquire {won} --crkey=0x22 --prkey=0x11 --rtype=1 --racqa=2")
    _allowed(write(winner, won), "the new holder writes")
    _refused(write(loser, lost), "the preempted writes")
    winner.run(f"nvme resv-release {won} --crkey=0x22 --rtype=1 --rrela=0")
    _allowed(write(loser, lost), "anybody writes once it is released")
    winner.run(f"nvme resv-register {won} --crkey=0x22 --rrega=1 --cptpl=2")
    assert report(winner, won)["regctl"] == 0, "nobody is registered any more"
