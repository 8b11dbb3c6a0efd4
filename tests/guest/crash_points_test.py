#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ext4 asked of a disk, asked of our arrays, which crash at every flush and in between.

usage: crash_points_test.py 6.1|6.12 [--long] [--seed N] [--build-dir build]

A stock Debian kernel works on an ext4 on a disk that logs writes and flushes. Replayed onto arrays
whose drives lose power again and again: whichever members are left, ext4 must find itself sound,
and what it promised to keep. Exit code 0 passed, 1 failed, 77 skipped (with "skipped: why").
"""
import argparse
import contextlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys

import steps
from crash_drives import Memory, Power
from crash_log import FLUSH, Promises, Recorder, digest_of
from image import image
from kernels import Unavailable, cache_folder
from machine import Machine
from scenario import Scenario, main
from targets import HOSTS, MIB, Export

FILESYSTEM_BYTES = 16 * MIB
# Level, members, and which of them may be missing.
ARRAYS = [
    ("1", 2, [(0,), (1,)]),
    ("10", 4, [(0, 2), (1, 3), (0, 3), (1, 2)]),
    ("5", 3, [(0,), (1,), (2,)]),
    ("6", 4, list(itertools.combinations(range(4), 2))),
]
IN_DATA = {"1": 1, "10": 2, "5": 2, "6": 2}

WORK = """
mark() {  # behind the file system
  echo "$*" >/run/mark
  dd if=/run/mark of=$d bs=4k seek=$behind count=1 conv=sync,notrunc oflag=direct 2>/run/dd.log
}
put() {  # NAME OPTION...: what /run/new holds, and the same to a copy
  f=$1; shift; mark begin $f
  dd if=/run/new of=/run/copy/$f bs=4k $1 conv=notrunc 2>/run/dd.log
  dd if=/run/new of=/mnt/$f bs=4k $1 conv=notrunc,fsync 2>/run/dd.log
  mark done $f $(sha256sum </run/copy/$f | cut -d' ' -f1)
}
mkdir -p /run/copy
i=0
while [ $i -lt $count ]; do
  name=f$((i * 7 % 11))
  head -c $((1000 + i * 3701 % 150000)) /dev/urandom >/run/new
  case $((i % 6)) in
    0|1) put $name ;;
    2) put $name seek=3 ;;
    3) put $name oflag=append ;;
    4) mkdir -p /mnt/later; cp /run/new /mnt/later/$i ;;
    5) cp /run/new /mnt/new; sync /mnt/new; mark begin $name
       mv /mnt/new /mnt/$name; cp /run/new /run/copy/$name; sync -f /mnt
       mark done $name $(sha256sum </run/new | cut -d' ' -f1)
       name=f$(((i + 3) % 11)); mark begin $name; rm -f /mnt/$name /run/copy/$name ;;
  esac
  i=$((i + 1))
done
"""


def record(guest, runtime, count):
    """The log of a file system's life."""
    recorder = Recorder(FILESYSTEM_BYTES)
    with runtime.create(recorder, len(recorder.bytes), name="recorder") as device:
        with device.export("nvme-tcp", "127.0.0.1:0") as export:
            place, nqn = export.uri.removeprefix("nvme-tcp://").split("/")
            where = Export(int(place.rsplit(":", 1)[1]), nqn.split("?")[0], device.size)
            guest.run("modprobe nvme-tcp; modprobe ext4")
            disk, _ = steps.connect(guest, where, HOSTS[0])
            guest.run(
                f"mkfs.ext4 -q -F -E nodiscard {disk} {FILESYSTEM_BYTES // 1024}k\n"
                f"mount -t ext4 {disk} /mnt\n"
                f"d={disk} behind={FILESYSTEM_BYTES // 4096} count={count}\n{WORK}"
                f"umount /mnt; e2fsck -fn {disk}", 600
            )
            steps.disconnect(guest, where)
    return recorder.log


class Replay:
    """A log on one array; the moments at which it crashes are looked at one by one."""

    def __init__(self, bb, runtime, array, folder, log, chances):
        self.bb, self.runtime, self.log = bb, runtime, log
        self.level, self.count, self.losses = array
        self.at_flush, self.within = chances
        self.folder = pathlib.Path(folder, self.level)
        self.folder.mkdir()
        self.random, self.looked, self.files = random.Random(0), 0, 0

    def run(self, seed):
        self.random.seed(f"{seed} {self.level}")
        size = FILESYSTEM_BYTES // IN_DATA[self.level] + 3 * MIB
        power, promises = Power(self.count, size, self.random), Promises()
        chunks = {} if self.level == "1" else {"chunk_bytes": 4096 << self.random.randrange(5)}
        with contextlib.ExitStack() as stack:
            devices = [
                stack.enter_context(self.runtime.create(drive, size)) for drive in power.drives
            ]
            array = stack.enter_context(self.bb.Array.create(
                devices, name="db", store=f"file:{self.folder}/store.db", level=self.level,
                assume_clean=True, **chunks,
            ))  # fmt: skip
            for self.place, (offset, data) in enumerate(self.log):
                if offset is not FLUSH and offset >= FILESYSTEM_BYTES:
                    promises.heard(data)
                    continue
                started = bool(promises.files)
                if started and self.random.random() < self.within:
                    power.cut_after(self.random.randrange(1, 3 * self.count))
                self.ask(array, offset, data)
                if started and offset is FLUSH and self.random.random() < self.at_flush:
                    power.cut()
                for cut in power.cuts:
                    self.look(cut, promises.files)
                power.cuts.clear()

    @staticmethod
    def ask(array, offset, data):
        if offset is FLUSH:
            array.flush()
        else:
            array.write(offset, data)

    def look(self, drives, promised):
        """What is left must do, and all must agree with it ever after."""
        lost = self.random.choice(self.losses)
        self.looked, self.files = self.looked + 1, self.files + len(promised)
        where = f"level {self.level}, entry {self.place} of the log"
        left = [drive for slot, drive in enumerate(drives) if slot not in lost]
        degraded = self.assembled([bytearray(drive) for drive in left])
        self.judge(degraded, promised, f"{where}, without members {lost}")
        contents = self.assembled(drives)
        self.judge(contents, promised, where)
        again = self.assembled(left, keep_store=True)
        assert again == contents, f"{where}: other bytes once members {lost} are gone"

    def assembled(self, drives, keep_store=False):
        """What an array of such drives reads as; they then hold what it made of them."""
        if not keep_store:
            for file in self.folder.glob("store.db*"):
                shutil.copy(file, self.folder / file.name.replace("store", "copy"))
        with contextlib.ExitStack() as stack:
            devices = [
                stack.enter_context(self.runtime.create(Memory(drive), len(drive)))
                for drive in drives
            ]
            store = f"file:{self.folder}/copy.db"
            array = stack.enter_context(self.bb.Array.assemble(devices, store=store))
            return b"".join(array.read(at, MIB) for at in range(0, FILESYSTEM_BYTES, MIB))

    def judge(self, contents, promised, where):
        """The journal is gone through; nothing else may need repair; then the files."""
        disk, found = self.folder / "image", self.folder / "found"
        disk.write_bytes(contents)
        for command, codes in ((["-fp", disk], (0, 1)), (["-fn", disk], (0,))):
            done = subprocess.run(["e2fsck", *command], capture_output=True, text=True, check=False)
            said = f"{where}: e2fsck {command[0]}, {done.returncode}:\n{done.stdout}{done.stderr}"
            assert done.returncode in codes, said
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir()
        subprocess.run(["debugfs", "-R", f"rdump / {found}", disk], capture_output=True, check=True)
        for name, digest in promised.items():
            assert (found / name).exists(), f"{where}: {name} is gone"
            assert digest_of(found / name) == digest, f"{where}: {name} is another"


def run(options, folder):
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    sys.path.insert(0, str(pathlib.Path(options.build_dir, "bindings/python").resolve()))
    try:
        import blockbridge as bb
    except ImportError as why:
        raise Unavailable(f"no Python module: {why}") from why
    for program in ("e2fsck", "debugfs"):
        if shutil.which(program) is None:
            raise Unavailable(f"no program {program}")
    chances = (1, 0.25) if options.long else (0.04, 0.01)
    with bb.Runtime() as runtime:
        with Machine(*image(options.kernel, cache_folder(options.build_dir))) as guest:
            print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
            scenario = Scenario(guest, options.long)
            log = scenario.step("record", record, guest, runtime, 200 if options.long else 40)
        flushes = sum(offset is FLUSH for offset, _ in log)
        print(f"  {len(log) - flushes} writes, {flushes} flushes; seed {options.seed}", flush=True)
        for array in ARRAYS:
            replay = Replay(bb, runtime, array, folder, log, chances)
            replay.run(options.seed)
            assert replay.looked > 0 and replay.files > 0
            print(f"  level {replay.level}: {replay.looked} crashes, {replay.files} times a file "
                  "was there", flush=True)  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seed", type=int, default=1)
    main(run, arguments)
