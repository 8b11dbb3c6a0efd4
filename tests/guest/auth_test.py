#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""DH-HMAC-CHAP with a stock kernel on the other side: its host with our target, our host with its
nvmet. Secrets are made by nvme-cli.

usage: auth_test.py 6.1|6.12 [--build-dir build]

Exit code 0 passed, 1 failed, 77 skipped (with a line "skipped: why").
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import steps
from image import image
from kernel_log import Watch
from kernels import META_PACKAGES, Unavailable, cache_folder
from machine import GuestError, Machine
from targets import HOSTS, OurTarget, ReferenceTarget

HOST = HOSTS[0]
# What the kernel says when an authentication fails, as it should here.
REFUSED = [r"authentication (setup )?failed", r"failed to connect queue", r"qid 0", r"nvme nvme\d+"]


def secret(hash_id, nqn):
    output = subprocess.run(
        ["nvme", "gen-dhchap-key", f"--hmac={hash_id}", f"--nqn={nqn}"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    (text,) = [word for word in output if word.startswith("DHHC-1:")]
    return text


class Secrets:
    """Files for our side, texts for the kernel's; the host's, the controller's and a wrong one."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.host = secret(1, HOST)
        self.controller = secret(0, HOST)
        self.wrong = secret(1, HOST)

    def file(self, name):
        path = self.folder / f"{name}.secret"
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600), encoding="ascii") as file:
            file.write(getattr(self, name) + "\n")
        return path


def step(name, function, *arguments):
    print(f"  {name} ... ", end="", flush=True)
    started = time.monotonic()
    result = function(*arguments)
    print(f"{time.monotonic() - started:.1f} s", flush=True)
    return result


def kernel_connects(guest, export, options):
    """Connects, writes, reads back behind the cache, disconnects."""
    with Watch(guest, "connect", [r"qid \d+: (authenticated|DH-HMAC)", r"re-authenticat"]):
        disk, _ = steps.connect(guest, export, HOST, True, options)
        guest.run(
            "head -c 1048576 /dev/urandom >/tmp/a\n"
            f"dd if=/tmp/a of={disk} bs=64k oflag=direct conv=notrunc 2>/dev/null\n"
            f"echo 3 >/proc/sys/vm/drop_caches; cmp -n 1048576 /tmp/a {disk}"
        )
        steps.disconnect(guest, export)


def kernel_is_refused(guest, export, options):
    with Watch(guest, "refused", REFUSED):
        code, output = guest.call(steps.connect_command(export, HOST, True, options))
    assert code != 0, f"connected with {options.split('=')[0]}: {output}"


def with_our_target(guest, options, folder, secrets):
    arguments = ["--host-secret", f"{HOST}={secrets.file('host')}"]
    arguments += ["--ctrl-secret", secrets.file("controller")]
    target = OurTarget(options.build_dir, folder, more=arguments)
    export = target.exports[1]
    right, wrong = f"--dhchap-secret={secrets.host}", f"--dhchap-secret={secrets.wrong}"
    mutual = f"{right} --dhchap-ctrl-secret="
    try:
        step("the right secret", kernel_connects, guest, export, right)
        step("a wrong secret", kernel_is_refused, guest, export, wrong)
        step("no secret", kernel_is_refused, guest, export, "")
        step("both prove themselves", kernel_connects, guest, export, mutual + secrets.controller)
        step("a wrong secret of ours", kernel_is_refused, guest, export, mutual + secrets.wrong)
        target.stop()
    except (AssertionError, GuestError):
        print(f"\ntarget says:\n{target.tail()}", flush=True)
        raise
    finally:
        target.kill()


def our_host(options, export, arguments):
    """Copies a pattern to the kernel's disk and back, by way of a bb-serve that opens it."""
    program = pathlib.Path(options.build_dir, "programs/bb-serve").resolve()
    uuid = HOST.rsplit(":", 1)[1]
    uri = (f"nvme-tcp://127.0.0.1:{export.port}/{export.nqn}?hostnqn={HOST}&hostid={uuid}"
           f"&connect_timeout=30s&io_timeout=30s&keep_alive=30s{arguments}")  # fmt: skip
    socket = pathlib.Path(options.folder, "nbd.sock")
    command = [program, "--device", uri, "--nbd", f"unix:{socket}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while (line := process.stdout.readline()) and not line.startswith("ready nbd"):
            pass
        if not line:
            return process.stderr.read()
        pattern, back = pathlib.Path(options.folder, "a"), pathlib.Path(options.folder, "b")
        pattern.write_bytes(os.urandom(1 << 20))
        nbd = f"nbd:unix:{socket}:exportname=disk"
        convert = ["qemu-io", "-f", "raw", nbd]
        for one in (f"write -s {pattern} 65536 1M", "flush"):
            subprocess.run([*convert, "-c", one], check=True, capture_output=True)
        read = ["qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=65536", "skip=1", "count=17",
                f"if={nbd}", f"of={back}"]  # fmt: skip
        subprocess.run(read, check=True, capture_output=True)
        assert back.read_bytes()[: 1 << 20] == pattern.read_bytes(), "other bytes came back"
        return ""
    finally:
        process.terminate()
        process.wait(30)


def accepted(options, export, arguments):
    complaint = our_host(options, export, arguments)
    assert complaint == "", complaint


def refused(options, export, arguments, *whys):
    complaint = our_host(options, export, arguments)
    assert any(why in complaint for why in whys), f"expected {whys}: {complaint}"


def with_nvmet(booted, options, secrets):
    target = ReferenceTarget(booted)
    try:
        target.machine.run(
            f"h=/sys/kernel/config/nvmet/hosts/{HOST}\n"
            f"echo '{secrets.host}' >$h/dhchap_key\n"
            f"echo '{secrets.controller}' >$h/dhchap_ctrl_key\n"
            "echo 'hmac(sha384)' >$h/dhchap_hash; echo ffdhe2048 >$h/dhchap_dhgroup"
        )
        right = f"&dhchap_secret_file={secrets.file('host')}"
        wrong = f"&dhchap_secret_file={secrets.file('wrong')}"
        export = target.exports[1]
        mutual = right + "&dhchap_ctrl_secret_file="
        step("our host: both prove themselves, with digests", accepted, options, export,
             mutual + str(secrets.file("controller")))  # fmt: skip
        step("our host: a wrong secret", refused, options, export, wrong,
             "the controller refuses us", "it may have refused")  # fmt: skip
        step("our host: no secret", refused, options, export, "", "give a dhchap_secret_file")
        step("our host: a wrong secret of nvmet's", refused, options, export,
             mutual + str(secrets.file("wrong")), "the controller has another secret")  # fmt: skip
        target.stop()
    except (AssertionError, GuestError):
        print(f"\nnvmet says:\n{target.tail()}", flush=True)
        raise
    finally:
        target.kill()


def run(options):
    if options.kernel == "6.1":
        raise Unavailable("Debian's 6.1 is built without NVMe in-band authentication")
    booted = image(options.kernel, cache_folder(options.build_dir))
    secrets = Secrets(options.folder)
    with Machine(*booted) as guest:
        print(f"  boot: {guest.release}, {guest.boot_seconds:.1f} s", flush=True)
        guest.run("modprobe nvme-tcp")
        with_our_target(guest, options, options.folder, secrets)
    with_nvmet(booted, options, secrets)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel", choices=META_PACKAGES)
    parser.add_argument("--build-dir", default="build")
    options = parser.parse_args()
    started, options.folder = time.monotonic(), tempfile.mkdtemp(prefix="bb-guest-auth.")
    try:
        run(options)
    except Unavailable as why:
        print(f"skipped: {why}")
        sys.exit(77)
    except (AssertionError, GuestError, subprocess.SubprocessError) as fault:
        print(f"FAILED: {fault}")
        sys.exit(1)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    print(f"passed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
