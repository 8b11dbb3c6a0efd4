#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bb-serve --ublk inside a stock Debian kernel: a mounted filesystem that survives its server.

usage: ublk_test.py 6.1|6.12 [--long] [--build-dir build]

6.1 has no ublk driver: there the error is what is looked at. Exit code 0, 1, or 77 when skipped.
"""
import pathlib

import steps
from image import image
from kernels import cache_folder
from machine import Machine
from programs import with_programs
from scenario import Scenario, main

NUMBER = 3
DISK = f"/dev/ublkb{NUMBER}"
SIZE_MIB = 64
# Some of the I/O takes 5 ms, so that a server which is killed has requests in hand.
SLOW = "fault:file:/tmp/disk.img%3Fsize=64M&create=1&direct=0?latency=5ms&latency_chance=1/2"
SAYS_WHAT_TO_DO = "modprobe ublk_drv; needs Linux 6.4 or newer"

SERVE = """
serve() {  # URI NUMBER OPTION...
  uri=$1 number=$2; shift 2
  start_daemon bb-serve --device "$uri" --ublk "$number" "$@"
}
"""


class UblkScenario(Scenario):
    def sh(self, script, seconds=60):
        return super().sh(SERVE + script, seconds)

    def run(self):
        self.step("no driver: what the error says", self.no_driver)
        if self.guest.call("modprobe ublk_drv")[0] != 0:
            assert self.guest.release.startswith("6.1."), "no ublk_drv in this kernel"
            print("  this kernel has no ublk_drv", flush=True)
            return
        self.step("attach: sizes, cache, abilities", self.shape)
        self.step("read-only", self.read_only)
        self.step("write, drop caches, sha256, fsck", self.files)
        seconds = 60 if self.long else 3
        self.step(f"fio verify, {seconds} s", self.fio, seconds)
        self.step("discard, write zeroes", self.ranges)
        kills = 20 if self.long else 3
        self.step(f"killed {kills} times under a mounted ext4", self.killed, kills)
        self.step("who may take over, who not", self.strangers)
        self.step("ended while mounted: kept", self.ended_while_mounted)
        ends = 30 if self.long else 3
        self.step(f"ended {ends} times while written to", self.ended_while_written_to, ends)
        self.step("ended with --ublk-keep, ended in order", self.kept)
        self.step("two disks on two loops: killed, ended, taken over", self.two_loops)

    def no_driver(self):
        self.sh(f"refused 6 '{SAYS_WHAT_TO_DO}' bb-serve --device mem:16M --ublk any")

    def shape(self):
        output = self.sh(f"""
serve '{SLOW}' {NUMBER}
/sbin/blockdev --getsize64 --getss --getpbsz --getro {DISK}
cd /sys/block/ublkb{NUMBER}/queue
cat write_cache fua max_hw_sectors_kb; [ $(cat discard_max_bytes) -gt 0 ]
[ $(cat write_zeroes_max_bytes) -gt 0 ]
""")
        lines = output.splitlines()
        assert lines[0] == f"export ublk {DISK} new", output
        expected = [str(SIZE_MIB << 20), "512", "4096", "0", "write back", "1", "512"]
        assert lines[-7:] == expected, output

    def read_only(self):
        self.sh(f"""
end
serve 'file:/tmp/disk.img?read_only=1' any
d=$(sed -n 's/export ublk \\(.*\\) new/\\1/p' /run/serve.out)
[ $(blockdev --getro $d) = 1 ]
if dd if=/dev/zero of=$d bs=4k count=1 conv=fsync 2>/run/dd; then exit 1; fi
dd if=$d bs=1M of=/dev/null 2>/dev/null
end
[ ! -e $d ]
serve '{SLOW}' {NUMBER}
""")

    def files(self):
        self.guest.run("modprobe ext4")
        steps.make_filesystem(self.guest, DISK)
        steps.write_and_verify(self.guest, DISK)

    def fio(self, seconds):
        steps.fio_verify(self.guest, DISK, SIZE_MIB, seconds)

    def ranges(self):
        self.sh(f"""
dd if=/dev/urandom of=/run/random bs=1M count=8 2>/dev/null
dd if=/run/random of={DISK} bs=1M oflag=direct 2>/dev/null
/sbin/blkdiscard -z -o 1M -l 2M {DISK}
dd if=/dev/zero of=/run/random bs=1M seek=1 count=2 conv=notrunc 2>/dev/null
dd if={DISK} bs=1M count=8 iflag=direct 2>/dev/null | cmp - /run/random
/sbin/blkdiscard -o 4M -l 1M {DISK}
dd if={DISK} bs=1M count=4 iflag=direct 2>/dev/null | cmp -n 4194304 - /run/random
""")

    def killed(self, times):
        """A writer that knows what was acknowledged; its server is killed and started again."""
        self.sh(f"mkfs.ext4 -q -F {DISK}; mount -t ext4 {DISK} /mnt\n{steps.START_WRITER}")
        for _ in range(times):
            output = self.sh(f"""
{steps.WAIT_FOR_WRITER}
kill -KILL $(cat /run/serve.pid)
sleep 0.3
serve '{SLOW}' {NUMBER}
""")
            assert f"export ublk {DISK} recovered" in output, output
        self.sh("sleep 0.5\n" + steps.END_WRITER)
        output = self.sh(
            f"({steps.CHECK_WRITTEN})\numount /mnt\ne2fsck -fn {DISK}\n"
            f"mount -t ext4 {DISK} /mnt\n({steps.CHECK_WRITTEN})\numount /mnt", 120
        )
        print(f"{output.splitlines()[-1]} files acknowledged and there, ", end="", flush=True)

    def strangers(self):
        """Only the same device may go on behind a block device, and only when nobody serves it."""
        self.sh(f"""
refused 4 'is served by process' bb-serve --device mem:64M --ublk {NUMBER}
kill -KILL $(cat /run/serve.pid); wait_gone
refused 4 'waits for the device it showed before' bb-serve --device mem:64M --ublk {NUMBER}
serve '{SLOW}' {NUMBER}
""")

    def ended_while_mounted(self):
        self.sh(f"""
mount -t ext4 {DISK} /mnt; rm -f /run/after
end
grep 'is mounted or open exclusively -> kept' /run/serve.err || grep kept /run/serve.err
(echo after >/mnt/after; sync -f /mnt; echo done >/run/after) >/dev/null 2>&1 </dev/null &
sleep 0.3
[ ! -e /run/after ]
serve '{SLOW}' {NUMBER} | grep recovered
n=0; until [ -e /run/after ] || [ $n -gt 100 ]; do n=$((n + 1)); sleep 0.1; done
[ "$(cat /mnt/after)" = after ]
umount /mnt
e2fsck -fn {DISK}
""")

    def ended_while_written_to(self, times):
        """Requests are on their way at every moment: none may be lost between two servers."""
        self.sh(f"""
mount -t ext4 {DISK} /mnt; rm -f /run/stop
(
  while [ ! -e /run/stop ]; do
    dd if=/dev/zero of=/mnt/direct bs=4k count=64 oflag=direct
  done
) >/dev/null 2>&1 </dev/null &
(
  while [ ! -e /run/stop ]; do
    dd if=/dev/urandom of=/mnt/synced bs=64k count=4 conv=fsync
  done
) >/dev/null 2>&1 </dev/null &
i=0
while [ $i -lt {times} ]; do
  sleep 0.3; end
  serve '{SLOW}' {NUMBER} | grep -q recovered
  i=$((i + 1))
done
echo >/run/stop; wait
umount /mnt
e2fsck -fn {DISK}
""", 60 + 5 * times)

    def kept(self):
        self.sh(f"""
end; [ ! -e {DISK} ]
serve '{SLOW}' {NUMBER} --ublk-keep | grep new
end; [ -e {DISK} ]
serve '{SLOW}' {NUMBER} | grep recovered
e2fsck -fn {DISK}
end; [ ! -e {DISK} ]
e2fsck -fn /tmp/disk.img
""")

    def two_loops(self):
        self.sh("""
file() { echo "file:/tmp/$1.img?size=32M&create=1&direct=0"; }
pair() {
  start_daemon bb-serve --reactors 2 --device "$(file a)" --device "$(file b)" --ublk 5 --ublk 6
}
taken_over() { [ "$(pair | grep -c recovered)" = 2 ]; }
pair
for n in 5 6; do
  mkfs.ext4 -q -F /dev/ublkb$n; mkdir -p /mnt$n; mount -t ext4 /dev/ublkb$n /mnt$n
  head -c 8388608 /dev/urandom >/run/random$n
done
for n in 5 6; do dd if=/run/random$n of=/mnt$n/file bs=1M conv=fsync 2>/run/dd$n & done
kill -KILL $(cat /run/serve.pid); wait_gone
taken_over
wait
end
[ "$(grep -c kept /run/serve.err)" = 2 ]
taken_over
echo 3 >/proc/sys/vm/drop_caches
for n in 5 6; do
  cmp /mnt$n/file /run/random$n; umount /mnt$n; e2fsck -fn /dev/ublkb$n
done
end
[ ! -e /dev/ublkb5 ]; [ ! -e /dev/ublkb6 ]
""")


def run(options, folder):
    programs = [pathlib.Path(options.build_dir, "programs/bb-serve")]
    booted = image(options.kernel, cache_folder(options.build_dir))
    with Machine(*with_programs(booted, programs, folder)) as guest:
        print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        UblkScenario(guest, options.long).run()


if __name__ == "__main__":
    main(run)
