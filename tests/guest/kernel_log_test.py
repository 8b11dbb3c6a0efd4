#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The judge of kernel logs, judged: what it must find, and what it must let pass."""
import kernel_log

UNCLEAN = [
    "<4>[   10.1] nvme nvme0: something odd",
    "<3>[   10.1] blk_update_request: I/O error, dev nvme0n1, sector 0 op 0x0",
    "<6>[   10.1] nvme nvme0: I/O 5 QID 1 timeout",
    "<6>[   10.1] nvme nvme0: I/O tag 5 (1005) type 4 opcode 0x1 timed out",
    "<6>[   10.1] nvme nvme0: queue 1: data digest error: recv 0x1 expected 0x2",
    "<6>[   10.1] nvme nvme0: Failed reconnect attempt 1",
    "<0>[   10.1] BUG: unable to handle page fault",
    "<4>[   10.1] WARNING: CPU: 0 PID: 1 at block/blk-mq.c:1",
    "<6>[   10.1] EXT4-fs error (device nvme0n1): ext4_lookup",
    "<6>[   10.1] INFO: task fio:1 blocked for more than 120 seconds.",
]
CLEAN = [
    "<6>[   10.1] nvme nvme0: new ctrl: NQN nqn.2026-11.io.blockbridge:disk:1, addr 192.0.2.2:4420",
    '<6>[   10.1] nvme nvme0: Removing ctrl: NQN "nqn.2026-11.io.blockbridge:disk:1"',
    "<5>[   10.1] nvme nvme0: resetting controller",
    "<6>[   10.1] EXT4-fs (nvme0n1): mounted filesystem with ordered data mode.",
    "<4>[   10.1] clocksource: timekeeping watchdog on CPU1",
    "<4>[   10.1] block device autoloading is deprecated and will be removed.",
    "not a line of dmesg -r",
]


def main():
    for line in UNCLEAN:
        assert kernel_log.faults(line) == [line], f"not found: {line}"
        assert kernel_log.faults(line, [r"10\.1"]) == [], f"not allowed for the step: {line}"
    for line in CLEAN:
        assert kernel_log.faults(line) == [], f"found: {line}"
    print(f"{len(UNCLEAN)} unclean and {len(CLEAN)} clean lines judged")


if __name__ == "__main__":
    main()
