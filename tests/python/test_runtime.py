# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

import blockbridge as bb


def io_uring_is_refused():
    try:
        bb.Runtime(engine="io_uring").close()
    except bb.Error:
        return True
    return False


def test_chooses_the_engine():
    with bb.Runtime() as runtime:
        assert runtime.engine == ("epoll" if io_uring_is_refused() else "io_uring")


def test_epoll_is_to_be_had_everywhere(tmp_path):
    with bb.Runtime(engine="epoll") as runtime:
        assert runtime.engine == "epoll"
        with runtime.open(f"file:{tmp_path}/a.img?create=1&size=1M") as device:
            device.write(4096, b"x" * 4096)
            device.flush()
            assert device.read(4096, 4096) == b"x" * 4096


def test_need_not_spin(tmp_path):
    with bb.Runtime(spin=False) as runtime, runtime.open("mem:1M") as device:
        device.write(0, b"y" * 4096)
        assert device.read(0, 4096) == b"y" * 4096


def test_names_the_engines():
    with pytest.raises(ValueError, match="engine 'kqueue' is none of auto, io_uring, epoll"):
        bb.Runtime(engine="kqueue")


def test_says_once_what_it_fell_back_to():
    script = "import blockbridge as bb\nfor _ in range(3):\n    bb.Runtime().close()\n"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = [line for line in ran.stderr.splitlines() if "io_uring" in line]
    assert len(lines) == (1 if io_uring_is_refused() else 0), ran.stderr
