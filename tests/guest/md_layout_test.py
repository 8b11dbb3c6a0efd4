#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Linux md judges where our RAID levels put blocks, and their parity, in a stock Debian kernel.

usage: md_layout_test.py 6.1|6.12 [--long] [--build-dir build]

Twice for each shape: md writes an array and raid_image knows what its members hold; raid_image
writes the members, and md finds no mismatch and reads them, also without what a level can lose.
Exit code 0 passed, 1 failed, 77 skipped (with a line "skipped: why").
"""
import pathlib
import random
import shutil
import subprocess

from image import image
from kernels import Unavailable, cache_folder, modules_of, unpacked_kernel, unpacked_package
from machine import Machine
from programs import with_programs
from scenario import Scenario, main

KIB, MIB = 1 << 10, 1 << 20
DRIVES, DRIVE_BYTES = 6, 3 * MIB + 36 * KIB  # no whole number of chunks
MADE_OFFSET = MIB
# Shape, KiB of a chunk, md's level and layout, members it can do without.
SHAPES = [
    ("5.3", 64, 5, "left-symmetric", 1),
    ("6.4", 64, 6, "left-symmetric", 2),
    ("1E.3", 64, 10, "n2", 1),
]
MORE_SHAPES = [
    ("0.3", 64, 0, "", 0),
    ("10.4", 64, 10, "n2", 1),
    ("10.5.3", 64, 10, "n3", 2),
    ("1E.5", 64, 10, "n2", 1),
    ("5.5", 64, 5, "left-symmetric", 1),
    ("6.6", 64, 6, "left-symmetric", 2),
    ("5.4", 16, 5, "left-symmetric", 1),
    ("6.5", 16, 6, "left-symmetric", 2),
]
# Shape -> a member, a row of it, and what lies there.
FLIPS = {
    "5.3": [(0, 2, "P"), (2, 1, "data chunk 2")],
    "6.4": [(2, 1, "P"), (3, 1, "Q"), (0, 1, "data chunk 2")],
    "1E.3": [(0, 1, "a copy of data chunk 1"), (2, 1, "a copy of data chunk 2")],
}
RESYNC = [r"md0: not clean -- starting background reconstruction"]
FAILED = [r"md0: Disk failure on", r"md0: Operation continuing on"]

SETUP = """
for m in /modules/*; do insmod $m 2>/run/insmod || grep 'File exists' /run/insmod; done
grep -q 'raid10.*raid6\\|raid6.*raid10' /proc/mdstat
echo 1000000 >/proc/sys/dev/raid/speed_limit_min
modprobe nvme
n=0
until [ "$(ls -d /sys/class/block/nvme0n? 2>/dev/null | wc -l)" = $drives ]; do
  n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05
done
mkdir -p /drive
for s in /sys/class/block/nvme0n?; do ln -s /dev/${s##*/} /drive/$(cat $s/nsid); done
"""
# Of all scripts with an array: the drives 1 to n are its members.
FUNCTIONS = """
export MDADM_NO_UDEV=1
md=/sys/block/md0/md
synced() {  # all there is to copy or to check is done
  n=0
  until [ $(cat $md/sync_action) = idle ] && [ $(cat $md/degraded) = 0 ] &&
      [ $(cat $md/resync_start) = none ]; do
    n=$((n + 1)); [ $n -lt 600 ] || { cat /proc/mdstat; return 1; }
    sleep 0.05
  done
}
checked() {
  echo check >$md/sync_action
  synced
  [ $(cat $md/mismatch_cnt) = 0 ] || { echo mismatches: $(cat $md/mismatch_cnt); return 1; }
}
reads_as() { dd if=/dev/md0 bs=256k iflag=direct | cmp - /run/pattern; }
fetch() { dd if=/drive/$drives bs=64k iflag=direct | head -c $1 >/run/pattern; }
stop() {
  mdadm --stop /dev/md0
  for m in $members; do
    mdadm --examine $m | sed -n 's/.*Data Offset : \\([0-9]*\\) sectors.*/offset \\1/p'
  done
}
"""
WRITE_BLOCKS = """
echo 2 >$md/rmw_level
for b in $blocks; do dd if=/dev/zero of=/dev/md0 bs=4k seek=$b count=1 oflag=direct; done
for b in $again; do
  dd if=/run/pattern of=/dev/md0 bs=4k skip=$b seek=$b count=1 oflag=direct
done
"""


def drives(folder):
    """The members' drives, and behind them one that brings the pattern into the guest."""
    arguments = ["-device", "nvme,id=ctl,serial=bb-md-1"]
    sizes = [DRIVE_BYTES] * DRIVES + [DRIVE_BYTES * DRIVES]
    for number, size in enumerate(sizes, 1):
        path = pathlib.Path(folder, f"drive{number}")
        with open(path, "wb") as file:
            file.truncate(size)
        arguments += ["-drive", f"file={path},if=none,format=raw,id=n{number}"]
        arguments += ["-device", f"nvme-ns,drive=n{number},bus=ctl,nsid={number}"]
    return arguments


class MdScenario(Scenario):
    def __init__(self, guest, long, judge, folder):
        super().__init__(guest, long)
        self.judge, self.folder = judge, pathlib.Path(folder)

    def run(self):
        self.step("modules, drives", self.sh, SETUP)
        for seed, row in enumerate(SHAPES + MORE_SHAPES if self.long else SHAPES):
            self.shape, self.chunk_kib, self.level, self.layout, self.spares = row
            self.count = int(self.shape.split(".")[1])
            self.files = [self.folder / f"drive{n + 1}" for n in range(self.count)]
            self.step(f"{self.shape}, {self.chunk_kib} KiB, md writes", self.md_writes, 2 * seed,
                      expected=RESYNC)  # fmt: skip
            if self.shape in FLIPS:
                self.step(f"{self.shape}, what is wrong is found", self.wrong, 2 * seed)
            self.step(f"{self.shape}, {self.chunk_kib} KiB, md reads", self.md_reads,
                      2 * seed + 1, expected=FAILED)  # fmt: skip

    def sh(self, script, seconds=60):
        return super().sh(f"drives={DRIVES + 1}\n" + script, seconds)

    def with_array(self, script, seconds=120):
        members = " ".join(f"/drive/{n + 1}" for n in range(self.count))
        return self.sh(f"members='{members}'\n" + FUNCTIONS + script, seconds)

    def create(self, options):
        layout = f"--bitmap=none --layout={self.layout}" if self.level else ""
        output = self.with_array(f"""
mdadm --zero-superblock $members
mdadm --create /dev/md0 --run --metadata=1.2 --level={self.level} {layout} \\
  --chunk={self.chunk_kib} --raid-devices={self.count} {options} $members
{"synced" if self.level else ""}
blockdev --getsize64 /dev/md0
""")
        return int(output.split()[-1])

    def fetch_pattern(self, size, seed):
        """By way of a file: QEMU would see the drive cut short."""
        path = self.folder / "pattern"
        subprocess.run([self.judge, "--pattern", str(size), str(seed), path], check=True)
        with open(self.folder / f"drive{DRIVES + 1}", "r+b") as drive:
            drive.write(path.read_bytes())

    def image(self, seed, size=None, shape=None, chunk_kib=None, files=None, make=False):
        """What raid_image says, and its exit code."""
        numbers = [(chunk_kib or self.chunk_kib) * KIB, self.offset, size or self.size, seed]
        command = [self.judge, *(["--make"] if make else []), shape or self.shape,
                   *map(str, numbers), *(files or self.files)]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout + result.stderr

    def stop(self, script):
        """Runs the rest of a script with an array, then stops it; its data offset in bytes."""
        output = self.with_array(script + "\nstop\n")
        words = [line.split()[1] for line in output.splitlines() if line.startswith("offset ")]
        assert len(words) == self.count and len(set(words)) == 1, output
        return int(words[0]) * 512

    def md_writes(self, seed):
        """Large writes, whose parity is made afresh, and small ones, which change the parity."""
        self.size = self.create("")
        self.fetch_pattern(self.size, seed)
        blocks = random.Random(seed).sample(range(self.size // 4096), 60)
        again = random.Random(seed + 1).sample(blocks, len(blocks))
        parity = "-symmetric" in self.layout
        self.offset = self.stop(f"""
fetch {self.size}
dd if=/run/pattern of=/dev/md0 bs=256k oflag=direct
blocks='{" ".join(map(str, blocks))}' again='{" ".join(map(str, again))}'
{WRITE_BLOCKS if parity else ""}
reads_as
{"checked" if self.level else ""}
""")
        code, said = self.image(seed)
        assert code == 0, said
        print(f"{said.strip()}, ", end="", flush=True)

    def md_reads(self, seed):
        self.offset = MADE_OFFSET
        code, said = self.image(seed, make=True)
        assert code == 0, said
        assert self.create(f"--assume-clean --data-offset={MADE_OFFSET // KIB}K") == self.size
        self.fetch_pattern(self.size, seed)
        lost = " ".join(f"/drive/{n + 1}" for n in range(self.spares))
        told = self.stop(f"""
fetch {self.size}
{"checked" if self.level else ""}
reads_as
for m in {lost}; do mdadm /dev/md0 --fail $(readlink $m); done
reads_as
""")
        assert told == MADE_OFFSET, f"md's data begin at {told}"

    def wrong(self, seed):
        """One byte, in turn in all kinds of chunks; another chunk size, another shape."""
        for member, row, content in FLIPS[self.shape]:
            files = list(self.files)
            files[member] = shutil.copy(files[member], self.folder / "flipped")
            with open(files[member], "r+b") as file:
                file.seek(self.offset + row * self.chunk_kib * KIB + 7)
                byte = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([byte ^ 0x10]))
            code, said = self.image(seed, files=files)
            words = f"member {member}, row {row}: not {content}: byte 7 of the chunk is "
            words += f"{byte ^ 0x10:#04x}, not {byte:#04x}"
            assert code == 1 and words in said, (words, code, said)
        code, said = self.image(seed, chunk_kib=self.chunk_kib // 2)
        assert code == 1 and "member" in said, said
        other = {"5.3": "1E.3", "1E.3": "5.3", "6.4": "5.4"}[self.shape]
        size = 12 * self.chunk_kib * KIB  # whole rows of both
        code, said = self.image(seed, shape=other, size=size)
        assert code == 1 and "member" in said, said


def run(options, folder):
    cache = cache_folder(options.build_dir)
    judge = pathlib.Path(options.build_dir, "tests/guest/raid_image")
    if not judge.exists():
        raise Unavailable(f"no program {judge.name} in {judge.parent}")
    booted = image(options.kernel, cache)
    mdadm = unpacked_package("mdadm", cache) / "sbin/mdadm"
    modules = modules_of(unpacked_kernel(options.kernel, cache), ["raid0", "raid10", "raid456"])
    booted = with_programs(booted, [mdadm], folder, modules)
    with Machine(*booted, devices=drives(folder)) as guest:
        print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        MdScenario(guest, options.long, judge, folder).run()


if __name__ == "__main__":
    main(run)
