#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stock Debian kernel as NVMe/TCP host of our target: files, resets, killed and second hosts.

usage: nvme_tcp_test.py 6.1|6.12 [--long] [--target bb-serve|reference] [--build-dir build]

Exit code 0 passed, 1 failed, 77 skipped (with a line "skipped: why").
"""
import argparse
import shutil
import subprocess
import sys
import tempfile
import time

import nvme_commands
import nvme_paths
import reservations
import steps
from image import image
from kernel_log import Watch
from kernels import META_PACKAGES, Unavailable, cache_folder
from machine import GuestError, Machine
from targets import HOSTS, OurTarget, ReferenceTarget, TwoPorts

FIRST, SECOND, STRANGER = HOSTS


# What a healthy kernel says while it resets a controller with commands outstanding.
# -32: the host itself shut the connection down while one of its own sends was under way.
RESETTING = [
    r"nvme nvme\d+: resetting controller",
    r"no usable path - requeuing I/O",
    r"nvme nvme\d+: failed to send request -32",
]


QUICK = "--reconnect-delay=1"


class Scenario:
    """One target and one kernel; every step prints a line with its duration."""

    def __init__(self, target, boot, long, two_ports=None):
        self.target, self.boot, self.long, self.two_ports = target, boot, long, two_ports
        self.files, self.raw = target.exports

    def step(self, guest, name, function, *arguments, expected=(), **options):
        print(f"  {name} ... ", end="", flush=True)
        started = time.monotonic()
        with Watch(guest, name, expected):
            result = function(guest, *arguments, **options)
        print(f"{time.monotonic() - started:.1f} s", flush=True)
        return result

    def run(self):
        with self.boot("first host") as first:
            self.filesystem(first)
            self.commands(first)
            self.resets(first)
            if self.two_ports:
                self.paths(first)
            self.second_host(first)

    def filesystem(self, guest):
        """Discover, connect, mkfs, write, drop caches, checksum, fsck, disconnect; both ways."""
        guest.run("modprobe nvme-tcp; modprobe ext4")
        self.step(guest, "discover", steps.discover, self.target, FIRST)
        refusal = [self.target.host_refused]
        refuse = steps.hidden_from_strangers
        self.step(guest, "a stranger is refused", refuse, self.target, STRANGER, expected=refusal)
        for digests in (True, False):
            how = "with digests" if digests else "without digests"
            disk, _ = self.step(
                guest, f"connect {how}", steps.connect, self.files, FIRST, digests
            )
            self.step(guest, "mkfs.ext4, mount", steps.make_filesystem, disk)
            self.step(guest, "write, drop caches, sha256, fsck", steps.write_and_verify, disk)
            self.step(guest, "disconnect", steps.disconnect, self.files)
            disk, _ = self.step(guest, "connect again", steps.connect, self.files, FIRST, digests)
            self.step(guest, "sha256, fsck", steps.read_again, disk)
            self.step(guest, "disconnect", steps.disconnect, self.files)

    def commands(self, guest):
        disk, ctrl = self.step(guest, "connect, raw disk", steps.connect, self.raw, FIRST)
        block = self.step(
            guest, "identify", nvme_commands.identify, self.target, self.raw, disk, ctrl
        )
        self.step(guest, "lists, logs, features", nvme_commands.lists_and_logs, disk, ctrl)
        self.step(guest, "compare, write-zeroes, dsm", nvme_commands.single_commands, self.target,
                  disk, block, expected=[r"LBA Out of Range", r"Compare Failure"])  # fmt: skip
        self.step(guest, "blkdiscard", nvme_commands.discard, disk)
        seconds = 60 if self.long else 5
        self.step(guest, f"fio verify, {seconds} s", steps.fio_verify, disk, 48, seconds)
        self.step(guest, "disconnect", steps.disconnect, self.raw)

    def resets(self, guest):
        for digests in (True, False) if self.long else (True,):
            disk, ctrl = self.step(guest, "connect", steps.connect, self.raw, FIRST, digests)
            count = 10 if self.long else 2
            reset = steps.reset_under_load
            name = f"{count} resets while writing"
            self.step(guest, name, reset, disk, ctrl, count, expected=RESETTING)
            self.step(guest, "disconnect", steps.disconnect, self.raw)

    def paths(self, guest):
        """Namespaces that change, ANA and a path that is cut, by two ports of one subsystem."""
        paths = nvme_paths.Paths(self.two_ports, FIRST)
        self.step(guest, "connect by two ports", paths.connect)
        self.step(guest, "ANA log, verify, copy", paths.commands,
                  expected=[r"LBA Out of Range", r"Invalid Command Opcode"])  # fmt: skip
        self.step(guest, "a namespace comes, grows and goes", paths.namespaces)
        self.step(guest, "I/O follows ANA", paths.ana, expected=nvme_paths.CUT)
        seconds = 30 if self.long else 6
        name = f"fio verify, ANA and a cut path, {seconds} s"
        self.step(guest, name, paths.cut, seconds, expected=nvme_paths.CUT)
        self.step(guest, "disconnect", paths.disconnect, expected=nvme_paths.CUT)

    def second_host(self, first):
        """A second host works while the first one writes, and after the first was killed."""
        first_disk, _ = self.step(
            first, "first host connects", steps.connect, self.raw, FIRST, options=QUICK
        )
        beside = Watch(first, "fio of the first host")
        beside.begin()
        first.start(steps.fio_command(first_disk, 24, 20, "--offset=24M"), 120)
        with self.boot("second host") as second:
            second.run("modprobe nvme-tcp; modprobe ext4")
            disk, _ = self.step(
                second, "second host connects", steps.connect, self.raw, SECOND, options=QUICK
            )
            self.step(second, "fio verify beside the first", steps.fio_verify, disk, 16, 5)
            code, output = first.finish()
            assert code == 0, f"fio of the first host: {steps.fio_said(output)}"
            beside.check()
            if self.target.has_reservations:
                self.reservations(first, second, first_disk, disk)
            first.start(f"while :; do dd if=/dev/zero of={first_disk} bs=1M seek=30 count=8 "
                        "oflag=direct conv=notrunc; done", 120)  # fmt: skip
            time.sleep(2)
            print("  first host killed in the middle of a write", flush=True)
            first.kill()
            second.run(
                f"dd if={disk} bs=4k skip=7680 count=1 2>/dev/null | cmp -n 4096 - /dev/zero"
            )
            self.step(second, "fio verify after the kill", steps.fio_verify, disk, 16, 5)
            files, _ = self.step(
                second, "connect the other disk", steps.connect, self.files, SECOND
            )
            self.step(second, "mkfs.ext4, mount", steps.make_filesystem, files)
            self.step(second, "write, drop caches, sha256, fsck", steps.write_and_verify, files)
            self.step(second, "disconnect", steps.disconnect, self.files)
            self.step(second, "disconnect", steps.disconnect, self.raw)


    def reservations(self, first, second, first_disk, second_disk):
        """Both hosts reserve the raw disk in turn; in between the target is killed."""
        disks = (first_disk, second_disk)
        noise = reservations.RECONNECTING
        started = Watch(first, "reservations, first host", noise)
        started.begin()
        self.step(
            second,
            "reservation: conflict",
            lambda other: reservations.conflict(first, other, disks),
            expected=noise,
        )
        self.target.crash()
        self.step(second, "after SIGKILL of the target", reservations.after_a_crash, second_disk,
                  expected=noise)  # fmt: skip
        self.step(
            second,
            "preempt and abort, release",
            lambda winner: reservations.preempt(first, winner, disks),
            expected=noise,
        )
        started.check()


def run(options, folder):
    booted = image(options.kernel, cache_folder(options.build_dir))

    def boot(what):
        guest = Machine(*booted)
        print(f"  boot of the {what}: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        return guest

    if options.target == "reference":
        target = ReferenceTarget(booted)
    else:
        target = OurTarget(options.build_dir, folder)
    two_ports = None if options.target == "reference" else TwoPorts(options.build_dir, folder)
    print(f"kernel {options.kernel} against {target.name}", flush=True)
    try:
        Scenario(target, boot, options.long, two_ports).run()
        target.stop()
        if two_ports:
            two_ports.stop()
        if (
            disk := target.disk
        ):  # what the guest wrote last must be a sound filesystem in the file
            subprocess.run(["/sbin/e2fsck", "-fn", disk], check=True, capture_output=True)
            print("  e2fsck of the file behind the target", flush=True)
    except (AssertionError, GuestError, ValueError, KeyError):
        print(f"\ntarget says:\n{target.tail()}", flush=True)
        raise
    finally:
        target.kill()
        if two_ports:
            two_ports.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel", choices=META_PACKAGES)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--target", choices=["bb-serve", "reference"], default="bb-serve")
    parser.add_argument("--build-dir", default="build")
    options = parser.parse_args()
    started, folder = time.monotonic(), tempfile.mkdtemp(prefix="bb-guest-test.")
    try:
        run(options, folder)
    except Unavailable as why:
        print(f"skipped: {why}")
        sys.exit(77)
    except (AssertionError, GuestError, subprocess.SubprocessError) as fault:
        print(f"FAILED: {fault}")
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"passed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
