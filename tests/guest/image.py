# SPDX-License-Identifier: Apache-2.0
"""Makes what QEMU boots: the kernel as ELF, an initramfs of busybox, modules, Debian's tools."""
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from kernels import Unavailable, unpacked_kernel, version_of

HERE = pathlib.Path(__file__).resolve().parent
HOST_ADDRESS, GUEST_ADDRESS, NETWORK = "192.0.2.2", "192.0.2.15", "192.0.2.0/24"
BOOT_MODULES = ["virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "configfs"]
# "crc32c_intel" and friends are what the kernel would load by udev; ext4 and nvme-tcp need CRC-32C.
MODULES = [
    *BOOT_MODULES,
    *["nvme-core", "nvme-fabrics", "nvme-tcp", "nvmet", "nvmet-tcp", "null_blk", "brd", "loop"],
    *["nvme", "ublk_drv"],  # 6.1 has no ublk_drv
    # What NVMe's in-band authentication loads by the algorithms' names; 6.1 has no nvme-auth.
    *["nvme-auth", "hmac", "sha256_generic", "sha512_generic", "dh_generic"],
    *["ext4", "crc32c_generic", "crc32c_intel", "crct10dif_generic", "crct10dif_pclmul"],
]
TOOLS = [
    *["/sbin/modprobe", "/sbin/ip", "/usr/sbin/nvme", "/usr/bin/fio", "/sbin/mkfs.ext4"],
    *["/sbin/e2fsck", "/sbin/blkdiscard", "/sbin/blockdev"],
]
FILES = ["/etc/mke2fs.conf"]


def _elf_of(vmlinuz):
    """The uncompressed kernel: QEMU starts it by PVH, which spares TCG the decompressor."""
    data = vmlinuz.read_bytes()
    for magic, unpack in ((b"\xfd7zXZ\0", _unpack_xz), (b"\x28\xb5\x2f\xfd", _unpack_zstd)):
        start = data.find(magic)
        while start >= 0:
            elf = unpack(data[start:])
            if elf.startswith(b"\x7fELF"):
                return elf
            start = data.find(magic, start + 1)
    return None


def _unpack_xz(data):
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
    except lzma.LZMAError:
        return b""


def _unpack_zstd(data):
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False).stdout


def _copy(stage, source, target):
    target = stage / target.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(os.path.realpath(source), target)


def libraries_of(program):
    """(where it is here, where it belongs in a guest) of each library a program needs."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    if "not found" in listing:
        raise Unavailable(f"{program} lacks a library:\n{listing}")
    folder = "/usr/lib/x86_64-linux-gnu/"
    for name, library in re.findall(r"(?:(\S+) => )?(/\S+) \(0x", listing):
        yield library, library if "ld-linux" in library else folder + (name or library)


def _copy_program(stage, path):
    if not os.path.exists(path):
        raise Unavailable(f"no program {path}")
    _copy(stage, path, path)
    for library, target in libraries_of(path):
        _copy(stage, library, target)


def _copy_modules(stage, kernel, version):
    modules = kernel / "lib/modules" / version
    if not (modules / "modules.dep").exists():
        subprocess.run(["depmod", "-b", kernel, version], check=True)
    for module in MODULES:
        listing = subprocess.run(
            ["modprobe", "-d", kernel, "-S", version, "-D", module],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for line in listing.stdout.splitlines():
            if line.startswith("insmod "):
                _copy_module(stage, line.split()[1])
    for path in [*modules.glob("modules.builtin*"), modules / "modules.order"]:
        _copy(stage, path, f"/lib/modules/{version}/{path.name}")
    subprocess.run(["depmod", "-b", stage, version], check=True)


def _copy_module(stage, path):
    target = stage / path[path.index("/lib/modules/") + 1 :].removesuffix(".xz")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = pathlib.Path(path).read_bytes()
    target.write_bytes(lzma.decompress(data) if path.endswith(".xz") else data)


def _fill(stage, kernel, version):
    for folder in "bin sbin usr/bin usr/sbin dev proc sys etc run tmp mnt var/lib lib64".split():
        (stage / folder).mkdir(parents=True)
    _copy(stage, "/bin/busybox", "/bin/busybox")
    for path in TOOLS:
        _copy_program(stage, path)
    for path in FILES:
        _copy(stage, path, path)
    _copy_modules(stage, kernel, version)
    (stage / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (stage / "etc/group").write_text("root:x:0:\n")
    (stage / "etc/ld.so.conf").write_text("/usr/lib/x86_64-linux-gnu\n")
    subprocess.run(["ldconfig", "-r", stage], check=True)
    init = (HERE / "init.sh").read_text()
    init = init.replace("@BOOT_MODULES@", " ".join(BOOT_MODULES))
    (stage / "init").write_text(init.replace("@GUEST_ADDRESS@", GUEST_ADDRESS))
    (stage / "init").chmod(0o755)


def _fingerprint(version):
    """Changes with anything that goes into an image, so that a cached one is never stale."""
    digest = hashlib.sha256(version.encode())
    for path in (HERE / "image.py", HERE / "init.sh"):
        digest.update(path.read_bytes())
    for path in ["/bin/busybox", *TOOLS, *FILES]:
        if not os.path.exists(path):
            raise Unavailable(f"no program {path}")
        status = os.stat(path)
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def image(name, cache):
    """(kernel, initramfs) of the kernel called name; made when the cached one does not fit."""
    folder = unpacked_kernel(name, cache)
    version = version_of(folder)
    base = cache / f"{name}-{_fingerprint(version)}"
    kernel, initramfs = base.with_suffix(base.suffix + ".elf"), base.with_suffix(
        base.suffix + ".cpio"
    )
    if initramfs.exists():
        return kernel, initramfs
    for old in cache.glob(f"{name}-*"):
        old.unlink()
    vmlinuz = folder / "boot" / f"vmlinuz-{version}"
    kernel.write_bytes(_elf_of(vmlinuz) or vmlinuz.read_bytes())
    with tempfile.TemporaryDirectory(dir=cache) as stage:
        _fill(pathlib.Path(stage), folder, version)
        partial = initramfs.with_suffix(".partial")
        with open(partial, "wb") as out:
            subprocess.run(
                "find . -print0 | cpio --null --create --format=newc --quiet --owner=+0:+0",
                shell=True, cwd=stage, stdout=out, check=True,
            )  # fmt: skip
        partial.rename(initramfs)
    return kernel, initramfs
