# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import blockbridge as bb

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from certificates import make_certificates  # noqa: E402


def test_nvme_tcp_from_one_runtime_to_another(runtime):
    with bb.Runtime() as other, runtime.open("mem:16M") as device:
        device.write(4096, b"n" * 8192)
        with device.export("nvme-tcp", "127.0.0.1:0") as exported:
            assert exported.uri.startswith("nvme-tcp://127.0.0.1:")
            with other.open(exported.uri) as remote:
                assert remote.size == device.size
                assert remote.read(4096, 8192) == b"n" * 8192
                remote.write(0, b"m" * 4096)
                remote.flush()
        assert device.read(0, 4096) == b"m" * 4096


def test_only_permitted_hosts(runtime):
    host = "nqn.2026-11.io.blockbridge:host:11111111-2222-4333-8444-555555555555"
    with runtime.open("mem:16M") as device, device.export(
        "nvme-tcp", "127.0.0.1:0", allowed_hosts=[host]
    ) as exported:
        with pytest.raises(bb.Error):
            runtime.open(exported.uri)
        with runtime.open(f"{exported.uri}?hostnqn={host}") as remote:
            assert remote.size == device.size


def test_nbd_judged_by_an_independent_client(runtime, tmp_path):
    source = tmp_path / "source.img"
    source.write_bytes(bytes(range(256)) * 4096)
    with runtime.open("mem:1M") as device, device.export(
        "nbd", f"unix:{tmp_path}/nbd.sock", name="disk"
    ) as exported:
        uri = f"nbd+unix:///disk?socket={tmp_path}/nbd.sock"
        assert exported.uri == uri
        subprocess.run(["nbdcopy", str(source), uri], check=True, timeout=60)
        assert device.read(0, 1 << 20) == source.read_bytes()


def test_bad_exports(runtime):
    with runtime.open("mem:1M") as device:
        with pytest.raises(bb.InvalidArgumentError, match="none of nvme-tcp, nbd, ublk"):
            device.export("floppy", "127.0.0.1:0")
        with device.export("nbd", "127.0.0.1:0", name="a") as exported:
            address = exported.uri.split("/")[2]
            with pytest.raises(bb.AlreadyExistsError, match="cannot listen"):
                device.export("nbd", address, name="b")
            with pytest.raises(bb.BadStateError, match="arrays or exports use"):
                device.close()


@pytest.mark.skipif(os.path.exists("/dev/ublk-control"), reason="skipped: ublk_drv is loaded")
def test_ublk_without_driver_says_what_to_do(runtime):
    with runtime.open("mem:1M") as device:
        with pytest.raises(bb.InvalidArgumentError, match="neither"):
            device.export("ublk", "three")
        why = "needs io_uring" if runtime.engine == "epoll" else "modprobe ublk_drv; needs Linux"
        with pytest.raises(bb.NotSupportedError, match=why):
            device.export("ublk", "any")


def test_nbd_client_and_what_is_allocated(runtime):
    mib = 1 << 20
    with bb.Runtime() as other, runtime.open("mem:16M") as device:
        device.write(4 * mib, b"n" * mib)
        with device.export("nbd", "127.0.0.1:0", "disk") as exported:
            with other.open(f"{exported.uri}?connections=2") as remote:
                assert remote.read(4 * mib, mib) == b"n" * mib
                remote.write(0, b"m" * 65536)
                remote.flush()
                assert list(remote.extents()) == list(device.extents()) == [
                    (0, 65536, False, False),
                    (65536, 4 * mib - 65536, True, True),
                    (4 * mib, mib, False, False),
                    (5 * mib, 11 * mib, True, True),
                ]
                remote.discard(4 * mib, mib)
                assert [e[:2] for e in remote.extents(mib)] == [(mib, 15 * mib)]
        assert device.read(0, 4096) == b"m" * 4096


def test_nbd_read_only_and_exclusive(runtime):
    with bb.Runtime() as other, runtime.open("mem:1M") as device:
        with device.export("nbd", "127.0.0.1:0", "d", read_only=True) as exported:
            with other.open(exported.uri) as remote:
                assert remote.info["read_only"]
                with pytest.raises(bb.PermissionDeniedError):
                    remote.write(0, bytes(512))
        with device.export("nbd", "127.0.0.1:0", "d", exclusive=True) as exported:
            with other.open(exported.uri) as first, other.open(exported.uri) as second:
                second.write(0, b"s" * 512)
                with pytest.raises(bb.UnavailableError):
                    for _ in range(1000):
                        first.read(0, 512)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_nbd_by_tls(runtime, tmp_path):
    files = make_certificates(tmp_path / "ours", "ours")
    server = {"tls": "required", "tls_certificate": files / "server-cert.pem",
              "tls_key": files / "server-key.pem", "tls_ca": files / "ca-cert.pem"}  # fmt: skip
    client = (f"tls=required&tls_ca={files}/ca-cert.pem"
              f"&tls_certificate={files}/client-cert.pem"
              f"&tls_key={files}/client-key.pem")  # fmt: skip
    with bb.Runtime() as other, runtime.open("mem:1M") as device:
        with device.export("nbd", "127.0.0.1:0", "d", **server) as exported:
            with other.open(f"{exported.uri}?{client}") as remote:
                remote.write(0, b"t" * 4096)
                assert remote.read(0, 4096) == device.read(0, 4096) == b"t" * 4096
            with pytest.raises(bb.Error, match="TLS"):
                other.open(exported.uri)  # in the clear
            with pytest.raises(bb.PermissionDeniedError, match="TLS"):  # no certificate of its own
                other.open(f"{exported.uri}?{client.split('&tls_certificate')[0]}").read(0, 512)
        (files / "server-key.pem").chmod(0o644)
        with pytest.raises(bb.PermissionDeniedError, match="others than its owner"):
            device.export("nbd", "127.0.0.1:0", "d", **server)
        with pytest.raises(bb.InvalidArgumentError, match="none of off, allowed, required"):
            device.export("nbd", "127.0.0.1:0", "d", tls="maybe")
        with pytest.raises(bb.InvalidArgumentError, match="tls and the tls_psk_file"):
            device.export("nvme-tcp", "127.0.0.1:0", tls="required")
