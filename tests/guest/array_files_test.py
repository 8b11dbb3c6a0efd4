#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ext4 and XFS of a stock Debian kernel on an array of ours, while disk nodes die and come back.

usage: array_files_test.py 6.1|6.12 [--long] [--raid 6.4] [--build-dir build]

The kernel is a host of our dataplane; fio and a writer of files, who know what they wrote, run in
the file system. Exit code 0 passed, 1 failed, 77 skipped (with a line "skipped: why").
"""
import argparse
import itertools
import os
import pathlib
import sys

import nvme_paths
import reservations
import steps
from image import image
from kernels import Unavailable, cache_folder, modules_of, unpacked_kernel
from machine import Machine
from programs import with_programs
from scenario import Scenario, main
from targets import HOSTS, MIB, Export

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from machines import in_sync, machines, wait_for

# RAID -> members in data, and the sets of slots that may be away together.
LEVELS = {
    "1.3": (1, [(0, 2), (0, 1), (1, 2)]),
    "10.4": (2, [(0, 2), (1, 3), (0, 3), (1, 2)]),
    "5.4": (3, [(0,), (1,), (2,), (3,)]),
    "6.4": (2, [(0, 2), (1, 3), (0, 1), (2, 3), (0, 3), (1, 2)]),
    "6.6": (4, list(itertools.combinations(range(6), 2))),
}
# File system -> MiB it wants, how it is made, how it is checked.
FILESYSTEMS = {
    "ext4": (128, "mkfs.ext4 -q -F -E nodiscard", "e2fsck -fn"),
    "xfs": (384, "mkfs.xfs -q -f -K", "xfs_repair -n"),
}
XFS_PROGRAMS = ["/sbin/mkfs.xfs", "/sbin/xfs_repair"]
INSMOD = "for m in /modules/*; do insmod $m 2>/run/insmod || grep 'File exists' /run/insmod; done\n"
# Until the array is assembled.
BUSY = [r"Connect command failed", r"nvme_ns_head_submit_bio: \d+ callbacks suppressed"]
CUT = nvme_paths.CUT + reservations.RECONNECTING + BUSY
QUICK = "--reconnect-delay=1 --ctrl-loss-tmo=600"

# Passes of fio, each of which verifies what it wrote, until there is /run/stop.
START_FIO = f"""
cat >/run/fio.sh <<'END'
while [ ! -e /run/stop ]; do
  {steps.fio_command("/mnt/fio", 16, 600, "--time_based=0 --randrepeat=0")} >/run/fio.out 2>&1
  code=$?
  [ $code = 0 ] || {{ (echo "fio: $code"; head -c 3000 /run/fio.out) >/run/fio.failed; break; }}
  echo pass >>/run/fio.passes
done
echo >/run/fio.ended
END
rm -f /run/fio.failed /run/fio.passes /run/fio.ended
sh /run/fio.sh >/dev/null 2>&1 </dev/null &
"""
END_FIO = """
echo >/run/stop; n=0
until [ -e /run/fio.ended ]; do n=$((n + 1)); [ $n -lt 1200 ]; sleep 0.1; done
[ ! -e /run/fio.failed ] || { cat /run/fio.failed; exit 1; }
wc -l </run/fio.passes
"""


class ArrayScenario(Scenario):
    def __init__(self, guest, options, folder):
        super().__init__(guest, options.long)
        self.raid, self.build, self.folder = options.raid, pathlib.Path(options.build_dir), folder
        self.in_data, self.losses = LEVELS[self.raid]
        self.members = int(self.raid.split(".")[1])

    def run(self):
        self.guest.run("modprobe nvme-tcp; modprobe ext4\n" + (INSMOD if self.long else ""))
        for filesystem in FILESYSTEMS if self.long else ["ext4"]:
            self.filesystem(filesystem)

    def filesystem(self, name):
        size_mib, make, check = FILESYSTEMS[name]
        folder = f"{self.folder}/{name}"
        os.mkdir(folder)
        drive = (size_mib // self.in_data + 8) * MIB
        names = [f"n{number}" for number in range(self.members)]
        with machines(self.build, folder, names, drives=1, size=drive) as (nodes, (self.plane,)):
            export = self.create(nodes)
            disk, _ = self.step(f"{name}: connect", steps.connect, self.guest, export, HOSTS[0],
                                True, QUICK)  # fmt: skip
            self.mount = f"mount -t {name} {disk} /mnt\n"
            self.unmount = f"cd /; umount /mnt; {check} {disk}\n"
            self.step("make, mount, start fio and the writer", self.sh,
                      f"{make} {disk}\n{self.mount}{steps.START_WRITER}{START_FIO}",
                      180)  # fmt: skip
            self.while_written(self.losses if self.long else self.losses[:2])
            self.step("contents, check, again", self.contents)
            for slots in reversed(self.losses if self.long else self.losses[2:3]):
                self.step(f"read without members {slots}", self.read_without, slots)
            self.sh("umount /mnt")
            self.step("disconnect", steps.disconnect, self.guest, export)

    def create(self, nodes):
        chunks = {} if self.raid == "1.3" else {"chunk_bytes": 16384}
        created = self.plane.call("array.create", name="db", raid=self.raid, assume_clean=True,
                                  **chunks)  # fmt: skip
        at = {node.name: node for node in nodes}
        self.nodes = {m["member_slot"]: at[m["disk_node"]] for m in created["members"]}
        (target,) = (
            target
            for target in self.plane.call("target.list")["targets"]
            if target["protocol"] == "nvme-tcp"
        )
        port = int(target["address"].rsplit(":", 1)[1])
        return Export(port, target["name"], self.plane.info()["capacity_bytes"])

    def while_written(self, losses):
        for slots in losses:
            self.step(f"members {slots} die and come back", self.away, slots,
                      self.sh, steps.WAIT_FOR_WRITER, 180)  # fmt: skip
        self.step(f"members {losses[-1]} die, and then the dataplane", self.away, losses[-1],
                  self.crash, expected=CUT)  # fmt: skip
        passes = self.step("fio and the writer end", self.sh, steps.END_WRITER + END_FIO, 180,
                           expected=CUT)  # fmt: skip
        print(f"  {int(passes.split()[-1])} passes of fio", flush=True)

    def away(self, slots, what, *arguments):
        """Nodes die at once; the guest does something; they return and are whole again."""
        for slot in slots:
            self.nodes[slot].kill()
        try:
            wait_for(lambda: in_sync(self.plane.info()) == self.members - len(slots))
            what(*arguments)
        finally:
            for slot in slots:
                self.nodes[slot].start()
        wait_for(lambda: in_sync(self.plane.info()) == self.members, 120)

    def crash(self):
        """Writes are under way, members are missing, and who knows of both is gone."""
        self.sh(steps.WAIT_FOR_WRITER, 180)
        self.plane.kill()
        self.plane.start()
        self.sh(steps.WAIT_FOR_WRITER, 180)

    def contents(self):
        """What the writer knows, and from now on what fio left, which it verified."""
        output = self.sh(f"""
cp /mnt/fio /run/fio.copy
{"fstrim /mnt" if self.long else ""}
{self.unmount}{self.mount}({steps.CHECK_WRITTEN})
cmp /mnt/fio /run/fio.copy
""", 300)
        print(f"{output.split()[-1]} files and fio's, ", end="", flush=True)

    def read_without(self, slots):
        script = f"{self.unmount}{self.mount}({steps.CHECK_WRITTEN})\n"
        self.away(slots, self.sh, script + "cmp /mnt/fio /run/fio.copy\n", 180)


def run(options, folder):
    for program in ("bb-disknode", "bb-dataplane"):
        if not pathlib.Path(options.build_dir, "programs", program).exists():
            raise Unavailable(f"no program {program} in {options.build_dir}/programs")
    cache = cache_folder(options.build_dir)
    booted = image(options.kernel, cache)
    if options.long:
        modules = modules_of(unpacked_kernel(options.kernel, cache), ["xfs"])
        booted = with_programs(booted, XFS_PROGRAMS, folder, modules)
    with Machine(*booted) as guest:
        print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        ArrayScenario(guest, options, folder).run()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--raid", choices=LEVELS, default="6.4")
    main(run, arguments)
