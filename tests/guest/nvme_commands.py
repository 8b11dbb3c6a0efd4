# SPDX-License-Identifier: Apache-2.0
"""Steps with single commands of nvme-cli: what our controller says of itself, and what it does."""
import json
import re


def _json(guest, command):
    output = guest.run(command + " -o json")
    return json.loads(output[output.index("{") :])


def identify(guest, target, export, disk, controller):
    ctrl = _json(guest, f"nvme id-ctrl {controller}")
    assert ctrl["subnqn"] == export.nqn, ctrl["subnqn"]
    assert ctrl["cntlid"] not in (0xFFFF, 0xFFFE), ctrl["cntlid"]
    assert ctrl["ver"] >= 0x10300, hex(ctrl["ver"])
    assert ctrl["kas"] > 0, "no keep-alive granularity"
    assert ctrl["ioccsz"] >= 4 and ctrl["iorcsz"] == 1, (ctrl["ioccsz"], ctrl["iorcsz"])
    assert ctrl["maxcmd"] >= 16 and ctrl["nn"] >= 1, (ctrl["maxcmd"], ctrl["nn"])
    assert ctrl["sqes"] == 0x66 and ctrl["cqes"] == 0x44, (ctrl["sqes"], ctrl["cqes"])
    assert ctrl["sgls"] & 1, "no SGL support"
    assert ctrl["oncs"] & 0b100 and ctrl["oncs"] & 0b1000, "no DSM or no Write Zeroes"
    assert bool(ctrl["oncs"] & 1) == target.has_compare, "Compare"
    for text in ("mn", "sn", "fr"):
        assert ctrl[text].strip() and ctrl[text].isprintable(), (text, ctrl[text])
    ns = _json(guest, f"nvme id-ns {disk}")
    block = 1 << ns["lbafs"][ns["flbas"] & 0xF]["ds"]
    assert ns["nsze"] * block == export.size_bytes, (ns["nsze"], block)
    assert ns["ncap"] <= ns["nsze"] and ns["nuse"] <= ns["nsze"], ns
    return block


def lists_and_logs(guest, disk, controller):
    listed = guest.run(f"nvme list-ns {controller}")
    assert listed.split() == ["[", "0]:0x1"] or "0x1" in listed.lower(), listed
    described = guest.run(f"nvme ns-descs {disk}")
    named = re.findall(r"(?:uuid|nguid|eui64)\s*:\s*([0-9a-f-]+)", described)
    assert any(set(name) - set("0-") for name in named), f"no identifier: {described}"
    assert disk in guest.run("nvme list"), "nvme list does not show the disk"
    smart = _json(guest, f"nvme smart-log {controller}")
    assert smart["critical_warning"] == 0, smart
    assert 250 < smart["temperature"] < 350 or smart["temperature"] == 0, smart["temperature"]
    assert int(smart["media_errors"]) == 0, smart
    errors = _json(guest, f"nvme error-log {controller} -e 1")
    assert "errors" in errors, errors
    firmware = guest.run(f"nvme fw-log {controller}")
    assert "afi" in firmware, firmware
    for feature, name in ((7, "queues"), (0xB, "async events"), (0xF, "keep-alive")):
        output = guest.run(f"nvme get-feature {controller} -f {feature}")
        assert "value" in output.lower(), (name, output)
    queues = guest.run(f"nvme get-feature {controller} -f 7").lower()
    value = int(queues.rsplit("value:", 1)[1].split()[0], 16)
    assert (value & 0xFFFF) >= 0 and (value >> 16) == (value & 0xFFFF), f"queues: {value:#x}"


def single_commands(guest, target, disk, block):
    """Compare, Write Zeroes and deallocation, with the data read back after each."""
    head = f"b={block}; n=$((32768 / b)); d={disk}\n"
    guest.run(
        head + "head -c 32768 /dev/urandom >/tmp/a; cp /tmp/a /tmp/b\n"
        "printf x | dd of=/tmp/b bs=1 seek=32767 conv=notrunc 2>/dev/null\n"
        "cmp -s /tmp/a /tmp/b && printf y | dd of=/tmp/b bs=1 seek=32767 conv=notrunc 2>/dev/null\n"
        "nvme write $d -s $n -c $((n - 1)) -z 32768 -d /tmp/a\n"
        "nvme read $d -s $n -c $((n - 1)) -z 32768 -d /tmp/r; cmp /tmp/a /tmp/r\n"
        "nvme flush $d"
    )
    if target.has_compare:
        guest.run(head + "nvme compare $d -s $n -c $((n - 1)) -z 32768 -d /tmp/a")
        code, output = guest.call(
            head + "nvme compare $d -s $n -c $((n - 1)) -z 32768 -d /tmp/b 2>&1"
        )
        assert code != 0 and "ompare" in output, f"unequal data compared as equal: {output}"
    guest.run(
        head + "nvme write-zeroes $d -s $n -c $((n - 1))\n"
        "nvme read $d -s $n -c $((n - 1)) -z 32768 -d /tmp/r\n"
        "head -c 32768 /dev/zero | cmp - /tmp/r\n"
        "nvme write $d -s $((2 * n)) -c $((n - 1)) -z 32768 -d /tmp/a\n"
        "nvme dsm $d --ad --slbs=$n --blocks=$n\n"
        "nvme read $d -s $n -c $((n - 1)) -z 32768 -d /tmp/r  # any contents, but no error\n"
        "nvme read $d -s $((2 * n)) -c $((n - 1)) -z 32768 -d /tmp/r; cmp /tmp/a /tmp/r"
    )
    code, output = guest.call(head + "nvme read $d -s $(blockdev --getsz $d) -c 7 -z 4096 2>&1")
    assert code != 0 and target.out_of_range in output, f"a read beyond the end: {output}"


def discard(guest, disk):
    guest.run(
        f"head -c 1048576 /dev/urandom >/tmp/a; d={disk}\n"
        "dd if=/tmp/a of=$d bs=1M seek=1 oflag=direct conv=notrunc 2>/dev/null\n"
        "/sbin/blkdiscard -o 2097152 -l 1048576 $d\n"
        "/sbin/blkdiscard -z -o 3145728 -l 1048576 $d\n"
        "echo 3 >/proc/sys/vm/drop_caches\n"
        "dd if=$d bs=1M skip=1 count=1 2>/dev/null | cmp - /tmp/a\n"
        "dd if=$d bs=1M skip=3 count=1 2>/dev/null | cmp -n 1048576 - /dev/zero"
    )
