# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels, and tools: packages unpacked below the cache folder, not installed."""
import os
import pathlib
import re
import subprocess

# What a person calls the kernel -> the Debian package that depends on its newest build.
META_PACKAGES = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}


class Unavailable(Exception):
    """A guest needs something that is not on this machine; the test is skipped with this text."""


def cache_folder(build_dir):
    folder = pathlib.Path(os.environ.get("BB_GUEST_CACHE", pathlib.Path(build_dir) / "guest"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _run(*command, cwd=None):
    try:
        return subprocess.run(
            command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600
        ).stdout
    except FileNotFoundError as error:
        raise Unavailable(f"no program {command[0]}") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        words = " ".join(map(str, command))
        text = (error.stderr or "").strip().splitlines()
        raise Unavailable(f"{words}: {text[-1] if text else 'failed'}") from error


def _newest_package(meta):
    depends = _run("apt-cache", "depends", "--important", meta)
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        raise Unavailable(f"apt knows no kernel package for {meta}")
    return found.group(1)


def unpacked_kernel(name, cache):
    """The folder of an unpacked kernel package: boot/, lib/modules/. Downloads it when absent."""
    have = sorted(cache.glob(f"kernel-{name}/*/lib/modules"))
    if have:  # an image once made keeps its kernel: `./dev clean` fetches a newer one
        return have[-1].parents[1]
    package = _newest_package(META_PACKAGES[name])
    return _unpack(package, cache / f"kernel-{name}" / package)


def unpacked_package(name, cache):
    """The folder of any unpacked package, of a tool that should not be installed for a test."""
    folder = cache / f"package-{name}"
    return folder if folder.exists() else _unpack(name, folder)


def _unpack(package, folder):
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    _run("apt-get", "download", "-qq", package, cwd=partial)
    (deb,) = partial.glob(f"{package}_*.deb")
    _run("dpkg", "-x", str(deb), str(partial))
    deb.unlink()
    partial.rename(folder)
    return folder


def version_of(folder):
    (modules,) = (folder / "lib/modules").iterdir()
    return modules.name


def modules_of(folder, names):
    """The files of modules and of what they need, in the order in which they can be loaded."""
    paths = []
    for name in names:
        plan = _run("modprobe", "-d", str(folder), "-S", version_of(folder), "-D", name)
        paths += [line.split()[1] for line in plan.splitlines() if line.startswith("insmod ")]
    return [pathlib.Path(path) for path in dict.fromkeys(paths)]
