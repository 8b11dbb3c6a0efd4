#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: a file system copied onto a three-way mirror while disk nodes are killed.

Three disk nodes with two drives each, one dataplane, all on 127.0.0.1, nothing of it left behind.
The judges are independent: nbdcopy, sha256, e2fsck. The exit code is 0 only when every byte came
back.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cluster import Cluster, DemoError
from terminal import Bar, detail, mib, step

IMAGE_BYTES = 448 << 20
CONTENT_BYTES = 320 << 20
FILE_BYTES = (
    64 << 10,
    16 << 20,
)  # few large files: making the image must not be the longest step
TOOLS = {
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
}


def check_machine(folder):
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise DemoError(f"missing packages: {' '.join(missing)}; install them with apt-get")
    free = shutil.disk_usage(folder).free
    needed = 5 * IMAGE_BYTES
    if free < needed:
        raise DemoError(
            f"{folder} has {mib(free)} free, the demo needs {mib(needed)};"
            " set TMPDIR to another place"
        )


def make_image(folder):
    """An ext4 file system made from files of this machine: real contents, nothing prepared."""
    content = folder / "content"
    content.mkdir()
    taken = files = 0
    for root, _, names in os.walk("/usr"):
        for name in names:
            path = pathlib.Path(root, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            size = path.stat().st_size
            if not FILE_BYTES[0] <= size <= FILE_BYTES[1] or taken + size > CONTENT_BYTES:
                continue
            target = content / str(path.relative_to("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            taken, files = taken + size, files + 1
        if taken > CONTENT_BYTES * 9 // 10:
            break
    image = folder / "source.ext4"
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-N",
            str(files * 2 + 1000),
            "-d",
            str(content),
            str(image),
        ],
        check=True,
    )
    shutil.rmtree(content)
    return image, files, taken


def sha256(path, length):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while length > 0:
            block = file.read(min(1 << 20, length))
            if not block:
                raise DemoError(f"{path} is shorter than expected by {length} bytes")
            digest.update(block)
            length -= len(block)
    return digest.hexdigest()


def copy(source, target, label, at_percent=None, action=None):
    """nbdcopy with a bar; `action` once, in the middle, when `at_percent` is reached."""
    bar = Bar(label)
    read_fd, write_fd = os.pipe()
    command = ["nbdcopy", "--flush", f"--progress={write_fd}", str(source), str(target)]
    with subprocess.Popen(
        command, pass_fds=[write_fd], stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write_fd)
        with os.fdopen(read_fd) as progress:
            for line in progress:
                percent = int(line.split("/")[0])
                bar.show(percent, 100)
                if action is not None and percent >= at_percent:
                    bar.end()
                    action()
                    action = None
        errors = process.stderr.read()
    bar.end()
    if process.returncode != 0:
        raise DemoError(f"{label}: nbdcopy ended with {process.returncode}: {errors}")
    if action is not None:
        raise DemoError(
            f"{label}: the copy ended before {at_percent}% was seen:"
            " nothing was killed in its middle"
        )


def wait_until(cluster, wanted, label, seconds):
    """Follows the array's state, with a bar for a resync, until `wanted(info)`."""
    bar = Bar(label)
    end = time.monotonic() + seconds
    while True:
        info = cluster.array()
        if any(member["state"] == "recovering" for member in info["members"]):
            bar.show(info["resync"]["done_bytes"], info["resync"]["total_bytes"])
        if wanted(info):
            bar.end()
            return info
        if time.monotonic() > end:
            raise DemoError(f"{label}: still \"{info['state']}\" after {seconds} s: {info}")
        time.sleep(0.05)


def in_sync(info):
    return sum(member["state"] == "in-sync" for member in info["members"])


def kill(node):
    node.kill()
    step(f"killed disk node {node.name} with SIGKILL")


def run(cluster, folder):
    step("making an ext4 file system from files of this machine")
    image, files, size = make_image(folder)
    expected = sha256(image, IMAGE_BYTES)
    detail(f"{files} files, {mib(size)}, image of {mib(IMAGE_BYTES)}, sha256 {expected[:16]}…")

    step("starting three disk nodes with two drives each, and a dataplane")
    cluster.start()
    detail(cluster.command("bb", "drive", "list"))
    step("building a three-way mirror, each member on another disk node")
    detail(
        cluster.command(
            "healctl", "create", "--name", "demo", "--raid", "1.3", "--spread", "--assume-clean"
        )
    )
    uri = f"nbd+unix:///demo?socket={cluster.nbd}"

    beta = cluster.nodes[1]
    step(f"copying the image in with nbdcopy; {beta.name} dies in the middle")
    copy(image, uri, "copy in", 40, lambda: kill(beta))
    info = wait_until(cluster, lambda i: in_sync(i) == 2, "degraded", 30)
    step(
        f"no I/O error; the array is {info['state']}, version {info['version']}: {info['reason']}"
    )

    dirty = info["dirty_regions"] * info["region_size_bytes"]
    step(f"starting {beta.name} again; {mib(dirty)} were marked dirty while it was away")
    beta.start()
    info = wait_until(cluster, lambda i: in_sync(i) == 3, "resync ", 120)
    copied = info["resync"]["done_bytes"]
    detail(
        f"bitmap resync copied {mib(copied)} of {mib(dirty)} dirty,"
        f" of {mib(info['capacity_bytes'])} in the array"
    )
    if copied == 0 or copied > dirty * 1.1:
        raise DemoError(f"the resync copied {copied} bytes for {dirty} dirty ones")

    alpha = cluster.nodes[0]
    kill(alpha)
    step("reading everything back with nbdcopy, without it")
    back = folder / "back.ext4"
    copy(uri, back, "copy out")
    os.truncate(back, IMAGE_BYTES)
    got = sha256(back, IMAGE_BYTES)
    if got != expected:
        raise DemoError(f"sha256 differs: wrote {expected}, read {got}")
    check = subprocess.run(["e2fsck", "-f", "-n", str(back)], capture_output=True, text=True)
    if check.returncode != 0:
        raise DemoError(f"e2fsck: exit {check.returncode}\n{check.stdout}{check.stderr}")
    step("sha256 equal, e2fsck clean")
    return {
        "files": files,
        "image": IMAGE_BYTES,
        "dirty": dirty,
        "copied": copied,
        "sha256": expected,
        "state": cluster.array()["state"],
    }


def summarise(result):
    print("\n== Summary")
    print(
        f"copied in and out   {mib(result['image'])}, {result['files']} files,"
        f" sha256 {result['sha256']}"
    )
    print("lost on the way     disk node beta (in the middle of the copy), then disk node alpha")
    print(f"resynchronised      {mib(result['copied'])} of {mib(result['dirty'])} dirty")
    print(f"array now           {result['state']}")
    print(
        """
To attach such an array by hand, run the daemons, see bb-disknode(1), bb-dataplane(1), then:
  nvme connect -t tcp -a ADDRESS -s PORT -n NQN     (address and NQN: bb target list)
  nbd-client -unix /path/nbd.sock /dev/nbd0 -N NAME
  qemu-img info 'nbd+unix:///NAME?socket=/path/nbd.sock'"""
    )


def stop_politely(signum, _frame):
    raise DemoError(f"stopped by signal {signum}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--build-dir", default="build", help="where the programs were built (default: build)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the scratch folder with the daemons' logs"
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop_politely)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bb-demo."))
    cluster = None
    try:
        check_machine(folder)
        cluster = Cluster(options.build_dir, folder)
        result = run(cluster, folder)
    except (DemoError, OSError, subprocess.SubprocessError) as error:
        print(f"\ndemo: failed: {error}", file=sys.stderr)
        return 1
    finally:
        if cluster is not None:
            cluster.stop()
        if options.keep:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    summarise(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
