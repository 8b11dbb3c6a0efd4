#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An emulated NVMe drive in a stock Debian kernel, by passthrough: nvme:/dev/ng0n1, bb nvme.

usage: nvme_local_test.py 6.1|6.12 [--long] [--build-dir build]

Exit code 0 passed, 1 failed, 77 skipped (with a line "skipped: why").
"""
import json
import pathlib

import steps
from image import image
from kernels import cache_folder
from machine import Machine
from programs import with_programs
from scenario import Scenario, main

SERIAL = "bb-local-1"
MIB = 1 << 20
# Blocks of 512 and of 4096 bytes, and one with metadata, which is refused.
NAMESPACES = [(8, ""), (8, ",logical_block_size=4096,physical_block_size=4096"), (8, ",ms=8")]
PROGRAMS = ["programs/bb-serve", "programs/bb/bb", "tests/conformance/conformance-device"]
GONE = [r"I/O [Ee]rror", r"Buffer I/O error", r"nvme nvme0: ", r"nvme0n\d: ", r"ublkb0"]
RESET = [r"nvme nvme0: ", r"resetting controller"]


def drive(folder):
    arguments = ["-device", f"nvme,id=ctl,serial={SERIAL},max_ioqpairs=4,mdts=6"]
    for number, (size_mib, options) in enumerate(NAMESPACES, 1):
        path = pathlib.Path(folder, f"namespace{number}")
        with open(path, "wb") as file:
            file.truncate(size_mib * MIB)
        arguments += ["-drive", f"file={path},if=none,format=raw,discard=unmap,id=n{number}"]
        arguments += ["-device", f"nvme-ns,drive=n{number},bus=ctl,nsid={number}{options}"]
    return arguments


class LocalScenario(Scenario):
    def run(self):
        self.find_nodes()
        self.step("inventory, formats, SMART", self.inventory)
        self.step("what is refused", self.refused)
        for blocks, name in ((512, self.small), (4096, self.large)):
            self.step(f"conformance, blocks of {blocks}", self.conformance, f"/dev/ng{name}")
        self.step("conformance over our own target", self.own_target)
        if self.guest.run("find /lib/modules -name 'ublk_drv*'"):
            self.step("what passthrough wrote, the block device reads", self.compare)
            seconds = 30 if self.long else 3
            self.step("fio verify while the controller is reset", self.resets, seconds,
                      expected=RESET)  # fmt: skip
            self.step("the drive is pulled", self.pulled, expected=GONE)
        else:
            print("  skipped: comparing, resets and pulling need ublk to drive them", flush=True)

    def find_nodes(self):
        """The kernel numbers namespaces as it comes across them, so the third may be 0n1."""
        output = self.sh("""
modprobe -a nvme nvme-tcp ext4
n=0
until [ "$(ls /dev/ng0n* 2>/dev/null | wc -l)" = 3 ] || [ $n -gt 100 ]; do
  n=$((n + 1)); sleep 0.1
done
for s in /sys/class/block/nvme0n?; do echo $(cat $s/nsid) ${s##*/nvme}; done
""")
        nodes = dict(line.split() for line in output.splitlines())
        self.small, self.large, self.checked = (nodes[nsid] for nsid in "123")

    def inventory(self):
        drives = json.loads(self.guest.run("bb nvme list -o json"))
        assert [d["name"] for d in drives] == ["nvme0"], drives
        (found,) = drives
        told = json.loads(self.guest.run("nvme id-ctrl /dev/nvme0 -o json"))
        for ours, theirs in (("serial", "sn"), ("model", "mn"), ("firmware", "fr")):
            assert found[ours] == told[theirs].strip(), (found, told)
        assert found["serial"] == SERIAL and found["transport"] == "pcie", found
        assert found["source"] == "simulated", "QEMU's drive passes for hardware"
        assert found["problem"] is None, found
        spaces = {space["name"]: space for space in found["namespaces"]}
        assert sorted(spaces) == ["nvme0n1", "nvme0n2", "nvme0n3"], spaces
        assert spaces["nvme0n1"]["uri"] == "nvme:/dev/ng0n1", spaces
        for name, space in spaces.items():
            told = json.loads(self.guest.run(f"nvme id-ns /dev/{name} -o json"))
            (used,) = [f for f in space["formats"] if f["in_use"]]
            theirs = told["lbafs"][used["number"]]
            assert (used["data_bytes"], used["metadata_bytes"]) == (
                1 << theirs["ds"], theirs["ms"]), (space, told)  # fmt: skip
            assert len(space["formats"]) == told["nlbaf"] + 1, (space, told)
            assert space["size_bytes"] == told["nsze"] * used["data_bytes"], (space, told)
        smart = json.loads(self.guest.run("bb nvme smart nvme0 -o json"))
        told = json.loads(self.guest.run("nvme smart-log /dev/nvme0 -o json"))
        assert smart["source"] == "simulated", smart
        assert smart["temperature_celsius"] == told["temperature"] - 273, (smart, told)
        for ours, theirs in (("spare_percent", "avail_spare"), ("wear_percent", "percent_used"),
                             ("power_on_hours", "power_on_hours"), ("media_errors", "media_errors"),
                             ("spare_threshold_percent", "spare_thresh")):  # fmt: skip
            assert smart[ours] == int(told[theirs]), (ours, smart, told)
        tables = self.guest.run("bb nvme; bb nvme info /dev/nvme0; bb nvme smart nvme0")
        for text in ("simulated", "== Drive nvme0 (simulated)", "== Formats of nvme0n1",
                     "== Health of nvme0 (simulated)"):  # fmt: skip
            assert text in tables, tables
        self.sh("refused 3 'no such NVMe controller' bb nvme info nvme7")

    def refused(self):
        self.sh(f"""
refused 6 'with 8 bytes of metadata' bb-serve --device nvme:/dev/ng{self.checked} --nbd unix:/run/n
refused 3 'No such file' bb-serve --device nvme:/dev/ng9n9 --nbd unix:/run/n
refused 2 'not the character device' bb-serve --device nvme:/dev/nvme0n1 --nbd unix:/run/n
refused 2 'not an NVMe namespace' bb-serve --device nvme:/dev/null --nbd unix:/run/n
mkfs.ext4 -q -F /dev/nvme{self.small}; mount -t ext4 /dev/nvme{self.small} /mnt
refused 4 'is mounted or in use; lock=0' \\
  bb-serve --device nvme:/dev/ng{self.small} --nbd unix:/run/n
umount /mnt
""")

    def conformance(self, node, without="none"):
        tests = f"--gtest_filter='*/nvme_local-*{without}*'"
        output = self.guest.run(
            f"BB_NVME_NAMESPACE={node} conformance-device {tests} 2>&1", 120
        )
        assert "[  PASSED  ]" in output and "SKIPPED" not in output, output
        tests = int(output.split("[  PASSED  ] ")[1].split()[0])
        assert tests > 8, output
        print(f"{tests} tests, ", end="", flush=True)

    def own_target(self):
        """The kernel as initiator of our target, and passthrough on what it shows."""
        self.sh("""
start_daemon bb-serve --device mem:8M --nvme-tcp 127.0.0.1:4420
nqn=$(sed -n 's/^export nvme-tcp [^ ]* //p' /run/serve.out)
id=11111111-0000-4000-8000-000000000000
nvme connect -t tcp -a 127.0.0.1 -s 4420 -n $nqn --hostid=$id --hostnqn=$nqn
n=0; until [ -c /dev/ng1n1 ] || [ $n -gt 100 ]; do n=$((n + 1)); sleep 0.1; done
""")
        # The longest of them only at leisure: each command goes through TCP inside the guest.
        self.conformance("/dev/ng1n1", "none" if self.long else "AgreesWithAModel")
        found = json.loads(self.guest.run("bb nvme info nvme1 -o json"))
        assert found["source"] == "simulated" and found["transport"] == "tcp", found
        self.sh("nvme disconnect -d nvme1; end")

    def compare(self):
        self.sh(f"""
modprobe ublk_drv
start_daemon bb-serve --device nvme:/dev/ng{self.small} --ublk 0
dd if=/dev/urandom of=/run/random bs=1M count=8
dd if=/run/random of=/dev/ublkb0 bs=512k oflag=direct
dd if=/dev/nvme{self.small} bs=1M iflag=direct | cmp - /run/random
/sbin/blkdiscard -z -o 1M -l 3M /dev/ublkb0
dd if=/dev/zero of=/run/random bs=1M seek=1 count=3 conv=notrunc
dd if=/dev/nvme{self.small} bs=1M iflag=direct | cmp - /run/random
/sbin/blkdiscard -o 5M -l 1M /dev/ublkb0
dd if=/dev/nvme{self.small} bs=1M count=5 iflag=direct | cmp -n 5242880 - /run/random
dd if=/dev/ublkb0 bs=1M count=5 iflag=direct | cmp -n 5242880 - /run/random
end
start_daemon bb-serve --device nvme:/dev/ng{self.large} --ublk 0
[ "$(/sbin/blockdev --getss /dev/ublkb0)" = 4096 ]
mkfs.ext4 -q -F /dev/ublkb0; mount -t ext4 /dev/ublkb0 /mnt
head -c 3000000 /dev/urandom >/run/file; cp /run/file /mnt/file; umount /mnt
end
e2fsck -fn /dev/nvme{self.large}
mount -t ext4 /dev/nvme{self.large} /mnt; cmp /mnt/file /run/file; umount /mnt
""", 120)  # fmt: skip

    def resets(self, seconds):
        """As many entries as fio has requests: one used too early would be read (decision 012)."""
        uri = f"nvme:/dev/ng{self.small}?queue_depth=16"
        self.sh(f"start_daemon bb-serve --device '{uri}' --ublk 0")
        self.guest.run("(for n in 1 2 3; do sleep 0.7; nvme reset /dev/nvme0; done) "
                       ">/run/reset.log 2>&1 </dev/null &")  # fmt: skip
        steps.fio_verify(self.guest, "/dev/ublkb0", 8, seconds)

    def pulled(self):
        self.sh(f"""
echo 1 >/sys/class/nvme/nvme0/device/remove
if dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct; then exit 1; fi
grep 'the drive is gone -> unavailable' /run/serve.err
end
""")


def run(options, folder):
    programs = [pathlib.Path(options.build_dir, program) for program in PROGRAMS]
    booted = image(options.kernel, cache_folder(options.build_dir))
    with Machine(*with_programs(booted, programs, folder), devices=drive(folder)) as guest:
        print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        LocalScenario(guest, options.long).run()


if __name__ == "__main__":
    main(run)
