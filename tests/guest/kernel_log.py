# SPDX-License-Identifier: Apache-2.0
"""When is a kernel log clean? Exactly: between two marks, no line is forbidden unless allowed.

A line is forbidden when its level is warning or worse (0..4), or when it matches FORBIDDEN at any
level. The allow-list holds what a healthy kernel says while a host connects or resets a controller.
"""
import re

FORBIDDEN = re.compile(
    r"BUG|WARNING|Oops|Call Trace|general protection|I/O [Ee]rror|[Tt]imed? ?out|digest"
    r"|hung task|blocked for more|EXT4-fs error|[Ff]ailed|corrupt|reconnect|protection fault",
)
WORST_ALLOWED_LEVEL = 5  # notice; 4 is warning

# Said by healthy kernels (6.1, 6.12): pattern -> why it is no fault of the target.
ALLOWED = {
    # QEMU's emulated processor is slow, and the kernel measures itself.
    r"clocksource: ": "the guest's clock under emulation",
    r"perf: interrupt took too long": "the guest's clock under emulation",
    r"hrtimer: interrupt took": "the guest's clock under emulation",
    r"sched: .*throttl": "the guest's clock under emulation",
    # devtmpfs makes a disk's node a moment before the disk can be opened; who opens it in between
    # lets the kernel look for a driver, find the disk there meanwhile, and say this.
    r"block device autoloading is deprecated": "a node opened while its disk was being added",
}

MARK = "blockbridge-mark-"


def parse(text):
    """(level, line) of the output of `dmesg -r`."""
    for line in text.splitlines():
        match = re.match(r"<(\d+)>(.*)", line)
        if match:
            yield int(match.group(1)) & 7, match.group(2)


def faults(text, expected=()):
    """The lines that make a log unclean; `expected` adds to the allow-list for one step."""
    allowed = [re.compile(pattern) for pattern in [*ALLOWED, *expected]]
    return [
        f"<{level}>{line}"
        for level, line in parse(text)
        if (level < WORST_ALLOWED_LEVEL or FORBIDDEN.search(line))
        and not any(pattern.search(line) for pattern in allowed)
        and MARK not in line
    ]


class Watch:
    """with Watch(guest, "connect"): ...   raises AssertionError if the log is not clean."""

    def __init__(self, guest, step, expected=()):
        self.guest, self.step, self.expected = guest, step, expected

    def begin(self):
        self.mark = MARK + re.sub(r"\W+", "-", self.step)
        self.guest.run(f"echo '<6>{self.mark}' >/dev/kmsg")

    def log(self):
        return self.guest.run("dmesg -r").rsplit(self.mark, 1)[-1]

    def check(self):
        found = faults(self.log(), self.expected)
        assert not found, f"{self.step}: the kernel log is not clean:\n" + "\n".join(found)

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.check()
        elif issubclass(kind, AssertionError):  # what the kernel saw is half of the explanation
            print(f"\nthe kernel's log of {self.step!r}:\n{self.log()[-6000:]}", flush=True)
