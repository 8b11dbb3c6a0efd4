#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""RAID 5 of ours, as a block device by ublk, beside that of Linux md, on the same virtual drives of
one guest with a stock Debian kernel.

usage: raid_guest.py [--build-dir build] [--kernel 6.12] [--rounds 5] [--seconds 4] [--members 5]
                     [--drive-mib 256] [--processors 1] [--jobs NAME,...] [--arrays NAME,...]
                     [--json FILE]

fio: 4 KiB random writes and reads at depth 1 and 32, 1 MiB sequential writes. md has an internal
bitmap, which leaves the write hole open, or a partial parity log ("ppl"), which closes it and has
no bitmap. Ours has bitmap and journal, with checksums and without. Arrays are made anew in every
round, in turns; medians, and the median of the rounds' ratios. The guest has no KVM, so processors
are slow and drives fast: what code costs weighs more than on iron, and what drives cost, less.
Exit code 0 whatever the figures are, 1 when something fails, 77 when skipped (with a line
"skipped: why").
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/guest"))
from image import image
from kernels import META_PACKAGES, Unavailable, cache_folder, modules_of
from kernels import unpacked_kernel, unpacked_package
from machine import GuestError, Machine
from programs import with_programs
from scenario import HELPERS

MIB = 1 << 20
CHUNK_KIB = 64
# Name -> fio's words.
JOBS = {
    "4k-write-1": "--rw=randwrite --bs=4k --iodepth=1",
    "4k-write-32": "--rw=randwrite --bs=4k --iodepth=32",
    "4k-read-1": "--rw=randread --bs=4k --iodepth=1",
    "4k-read-32": "--rw=randread --bs=4k --iodepth=32",
    "1m-write-4": "--rw=write --bs=1m --iodepth=4",
}
ARRAYS = {
    "md-bitmap": "mdadm_create --bitmap=internal",
    "md-ppl": "mdadm_create --consistency-policy=ppl",
    "ours": "ours",
    "ours-sums": "ours --checksums",
}
SETUP = """
for m in /modules/*; do insmod $m 2>/run/insmod || grep 'File exists' /run/insmod; done
grep -q raid5 /proc/mdstat
modprobe nvme; modprobe ublk_drv
n=0
until [ "$(ls -d /sys/class/block/nvme0n? 2>/dev/null | wc -l)" = $members ]; do
  n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05
done
"""
FUNCTIONS = """
export MDADM_NO_UDEV=1
drives=; devices=; n=1
while [ $n -le $members ]; do
  drives="$drives /dev/nvme0n$n"; devices="$devices --device file:/dev/nvme0n$n"; n=$((n + 1))
done
mdadm_create() {
  mdadm --zero-superblock $drives 2>/run/zero || true
  mdadm --create /dev/md0 --run --metadata=1.2 --level=5 --chunk=$chunk --raid-devices=$members \\
    --assume-clean "$@" $drives >/dev/null
  echo /dev/md0 >/run/disk
}
ours() {
  start_daemon array_serve --shape 5.$members --chunk-kib $chunk "$@" $devices >/dev/null
  sed -n 's/export ublk //p' /run/serve.out >/run/disk
}
stop() {
  case $(cat /run/disk) in /dev/md0) mdadm --stop /dev/md0 2>/run/stop ;; *) end ;; esac
}
"""


def drives(folder, options):
    arguments = ["-device", "nvme,id=ctl,serial=bb-bench-1"]
    for number in range(1, options.members + 1):
        path = pathlib.Path(folder, f"drive{number}")
        with open(path, "wb") as file:
            file.truncate(options.drive_mib * MIB)
        arguments += ["-drive", f"file={path},if=none,format=raw,id=n{number}"]
        arguments += ["-device", f"nvme-ns,drive=n{number},bus=ctl,nsid={number}"]
    return arguments


class Bench:
    def __init__(self, guest, options):
        self.guest, self.options = guest, options

    def sh(self, script, seconds=120):
        numbers = f"members={self.options.members} chunk={CHUNK_KIB}\n"
        return self.guest.run(HELPERS + numbers + FUNCTIONS + script, seconds)

    def job(self, name):
        """I/Os a second, p50 and p99 in microseconds."""
        output = self.sh(f"""
fio --name={name} --filename=$(cat /run/disk) --direct=1 --ioengine=libaio --randrepeat=0 \\
  --runtime={self.options.seconds} --time_based --output-format=json {JOBS[name]} >/run/fio.json
cat /run/fio.json
""", 60 + self.options.seconds)  # fmt: skip
        (job,) = json.loads(output[output.index("{") :])["jobs"]
        side = job["write" if "write" in name else "read"]
        assert job["error"] == 0 and side["total_ios"] > 0, output
        clat = side["clat_ns"]["percentile"]
        return {"iops": side["iops"], "p50": clat["50.000000"] / 1e3,
                "p99": clat["99.000000"] / 1e3}  # fmt: skip

    def round(self):
        results = {}
        for array in self.options.arrays:
            self.sh(ARRAYS[array])
            results[array] = {}
            for name in self.options.jobs:
                try:
                    results[array][name] = self.job(name)
                except GuestError as fault:
                    told = self.guest.call("cat /run/serve.err /proc/mdstat; dmesg | tail -20")[1]
                    raise GuestError(f"{array}, {name}: {fault}\n{told}") from fault
            self.sh("stop")
        return results


def report(rounds, options):
    base = options.arrays[0]
    print(f"RAID 5 of {options.members}, chunks of {CHUNK_KIB} KiB, medians of {len(rounds)} "
          f"rounds of {options.seconds} s; p50, p99; ratio: rate beside {base}'s")  # fmt: skip
    print(f"{'':12}" + "".join(f"{array:>38}" for array in options.arrays))
    rows = []
    for job in options.jobs:
        line = f"{job:12}"
        for array in options.arrays:
            runs = [one[array][job] for one in rounds]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            ratio = statistics.median(
                one[array][job]["iops"] / one[base][job]["iops"] for one in rounds
            )
            line += (f"{middle['iops']:9.0f}/s {middle['p50'] / 1e3:6.2f} "
                     f"{middle['p99'] / 1e3:7.2f} ms  x{ratio:5.2f}")  # fmt: skip
            rows.append({"job": job, "array": array, "ratio": ratio, **middle})
        print(line, flush=True)
    for row in rows:
        if row["array"].startswith("ours") and row["ratio"] < 1:
            share = f"{row['ratio']:.2f} of its rate"
            print(f"slower than {base}: {row['array']}, {row['job']}: {share}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def run(options, folder):
    program = options.build_dir / "bench/array_serve"
    cache = cache_folder(options.build_dir)
    booted = image(options.kernel, cache)
    mdadm = unpacked_package("mdadm", cache) / "sbin/mdadm"
    modules = modules_of(unpacked_kernel(options.kernel, cache), ["raid456"])
    booted = with_programs(booted, [mdadm, program], folder, modules)
    with Machine(*booted, processors=options.processors, devices=drives(folder, options)) as guest:
        print(f"boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        bench = Bench(guest, options)
        bench.sh(SETUP)
        rounds = []
        for number in range(options.rounds):
            rounds.append(bench.round())
            print(f"round {number + 1} of {options.rounds}", flush=True)
        report(rounds, options)


def words_of(known):
    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f'"{word}" is none of {", ".join(known)}')
        return words

    return parse


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build-dir", type=pathlib.Path, default="build")
    parser.add_argument("--kernel", choices=META_PACKAGES, default="6.12")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--drive-mib", type=int, default=256)
    parser.add_argument("--processors", type=int, default=1)
    parser.add_argument("--jobs", type=words_of(JOBS), default=list(JOBS))
    parser.add_argument("--arrays", type=words_of(ARRAYS), default=list(ARRAYS))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="bb-raid-guest.")
    try:
        run(options, folder)
    except Unavailable as why:
        print(f"skipped: {why}")
        sys.exit(77)
    except GuestError as fault:
        print(f"FAILED: {fault}")
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
