#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""NBD over TLS with certificates: our server judged by libnbd and qemu (GnuTLS both), our client by
nbdkit and qemu-nbd.

usage: nbd_tls_test.py BUILD_DIR      (exit 77: a peer is missing)
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

from tools import peer, require, run

require("openssl", "nbdkit", "qemu-nbd", "qemu-img", "nbdinfo", "nbdcopy")

import nbd  # noqa: E402
import pytest  # noqa: E402

if not nbd.NBD().supports_tls():
    print("skipped: libnbd is built without TLS")
    sys.exit(77)

from daemon import running  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from certificates import make_certificates  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BB_BUILD_DIR", "build"))
SERVE = BUILD / "programs" / "bb-serve"
MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(scope="module", name="ours")
def fixture_ours(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "ours", "our authority")


@pytest.fixture(scope="module", name="theirs")
def fixture_theirs(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "theirs", "another authority")


def serving(certificates, policy, verify, tmp_path, *more):
    """A bb-serve; tcp_of() tells where."""
    command = [SERVE, "--device", f"mem:{SIZE}", "--nbd", "127.0.0.1:0",
               "--nbd", f"unix:{tmp_path}/s", "--nbd-tls", policy,
               "--nbd-tls-certificate", certificates / "server-cert.pem",
               "--nbd-tls-key", certificates / "server-key.pem"]  # fmt: skip
    command += more
    if verify:
        command += ["--nbd-tls-ca", certificates / "ca-cert.pem"]
    return running(command, ["ready nbd 127", "ready nbd unix"])


def tcp_of(daemon):
    return next(line[0] for line in daemon.last_words("ready nbd ") if line[0][0] == "1")


def connected(address, certificates=None, tls=nbd.TLS_REQUIRE, name="disk"):
    client = nbd.NBD()
    client.set_tls(tls)
    if certificates is not None:
        client.set_tls_certificates(str(certificates))
    client.set_export_name(name)
    host, port = address.split(":")
    client.connect_tcp(host, port)
    return client


def qemu_url(address):
    host, port = address.split(":")
    return f"driver=nbd,host={host},port={port},export=disk,tls-creds=tls0"


def qemu_creds(certificates, role):
    return f"tls-creds-x509,id=tls0,endpoint={role},dir={certificates}"


@pytest.mark.parametrize("verify", [False, True])
def test_our_server_and_clients_of_others(ours, verify, tmp_path):
    image = tmp_path / "in.img"
    image.write_bytes(os.urandom(4 * MIB) + bytes(SIZE - 4 * MIB))
    with serving(ours, "required", verify, tmp_path) as daemon:
        address = tcp_of(daemon)
        client = connected(address, ours)
        assert client.get_tls_negotiated() and client.get_structured_replies_negotiated()
        client.pwrite(b"t" * MIB, 8 * MIB)
        assert client.pread(MIB, 8 * MIB) == b"t" * MIB
        client.shutdown()
        uri = f"nbds://{address}/disk?tls-certificates={ours}"
        run("nbdcopy", "--connections=3", image, uri)
        info = json.loads(run("nbdinfo", "--no-content", "--json", uri))
        assert info["TLS"] is True
        assert json.loads(run("nbdinfo", "--map", "--json", uri))[0]["type"] == 0
        run("qemu-img", "convert", "--object", qemu_creds(ours, "client"), "--image-opts",
            qemu_url(address), "-O", "raw", tmp_path / "out.img")  # fmt: skip
        assert (tmp_path / "out.img").read_bytes() == image.read_bytes()


def test_tls_goes_with_a_connection_to_another_reactor(ours, tmp_path):
    more = ("--device", f"mem:{SIZE}", "--reactors", "2")
    with serving(ours, "required", True, tmp_path, *more) as daemon:
        for name in ("disk0", "disk1"):
            clients = [connected(tcp_of(daemon), ours, name=name) for _ in range(4)]
            data = os.urandom(MIB)
            clients[0].pwrite(data, 0)
            clients[0].flush()
            for client in clients:
                assert client.get_tls_negotiated() and client.pread(MIB, 0) == data
                client.shutdown()


def test_required_means_that_nothing_else_is_answered(ours, tmp_path):
    with serving(ours, "required", False, tmp_path) as daemon:
        address = tcp_of(daemon)
        with pytest.raises(nbd.Error, match="(?i)tls"):
            connected(address, tls=nbd.TLS_DISABLE)
        run("nbdinfo", "--list", f"nbd://{address}", fails=True)
        out = run("qemu-img", "info", f"nbd://{address}/disk", fails=True)
        assert "TLS" in out


def test_allowed_leaves_it_to_the_client(ours, tmp_path):
    with serving(ours, "allowed", False, tmp_path) as daemon:
        address = tcp_of(daemon)
        for tls in (nbd.TLS_DISABLE, nbd.TLS_ALLOW, nbd.TLS_REQUIRE):
            client = connected(address, ours, tls)
            assert client.get_tls_negotiated() == (tls != nbd.TLS_DISABLE)
            assert client.pread(4096, 0) == bytes(4096)
            client.shutdown()


def test_strangers_are_refused_on_both_sides(ours, theirs, tmp_path):
    with serving(ours, "required", True, tmp_path) as daemon:
        address = tcp_of(daemon)
        with pytest.raises(nbd.Error):  # they do not know our authority
            connected(address, theirs)
        mixed = tmp_path / "mixed"
        shutil.copytree(theirs, mixed)
        shutil.copy(ours / "ca-cert.pem", mixed / "ca-cert.pem")
        with pytest.raises(nbd.Error):  # they do, but are not of it; TLS 1.3 tells them late
            connected(address, mixed).pread(512, 0)
        client = connected(address, ours)
        assert client.pread(512, 0) == bytes(512)
        client.shutdown()


GREETING_BYTES, OPTION_MAGIC, REPLY_MAGIC = 18, b"IHAVEOPT", bytes.fromhex("0003e889045565a9")
START_TLS, LIST = 5, 3


def option(number):
    return OPTION_MAGIC + number.to_bytes(4, "big") + bytes(4)


def raw(address):
    host, port = address.split(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    assert len(client.recv(GREETING_BYTES, socket.MSG_WAITALL)) == GREETING_BYTES
    client.sendall((3).to_bytes(4, "big"))
    return client


def everything(client):
    got = b""
    try:
        while more := client.recv(65536):
            got += more
    except ConnectionResetError:
        pass
    return got


def test_what_stands_in_the_clear_behind_starttls_is_not_heard(ours, tmp_path):
    for policy in ("allowed", "required"):
        with serving(ours, policy, False, tmp_path) as daemon, raw(tcp_of(daemon)) as client:
            client.sendall(option(START_TLS) + option(LIST))
            got = everything(client)
            assert got.count(REPLY_MAGIC) == 1 and b"disk" not in got, got


def test_a_flood_of_handshakes_is_bounded_and_harms_nobody(ours, tmp_path):
    def kibibytes(what):
        status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if what in line)

    with serving(ours, "required", False, tmp_path) as daemon:
        address = tcp_of(daemon)
        before = connected(address, ours)
        before.pwrite(b"b" * 4096, 0)
        resident = kibibytes("VmRSS")
        strangers = []
        for _ in range(300):
            client = raw(address)
            client.sendall(option(START_TLS) + bytes.fromhex("16030100ff"))  # half a ClientHello
            strangers.append(client)
        assert before.pread(4096, 0) == b"b" * 4096
        after = connected(address, ours)  # somebody who goes on without a pause
        assert after.pread(4096, 0) == b"b" * 4096
        grown = kibibytes("VmHWM") - resident
        assert grown < 64 << 10, f"{grown} KiB more"
        for client in strangers:
            client.close()
        before.shutdown()
        after.shutdown()


def nbdkit(socket, certificates):
    tls = ["--tls=require", "--tls-verify-peer", f"--tls-certificates={certificates}"]
    return peer(["nbdkit", "-f", "-U", socket, *tls, "memory", f"{SIZE}"], socket)


def qemu_nbd(socket, certificates):
    image = socket.parent / "i"
    image.write_bytes(bytes(SIZE))
    creds = qemu_creds(certificates, "server") + ",verify-peer=on"
    return peer(["qemu-nbd", "-f", "raw", "-x", "disk", "-k", socket, "-t", "--object", creds,
                 "--tls-creds", "tls0", image], socket)  # fmt: skip


def device_uri(socket, certificates, options=""):
    return (f"nbd+unix:///disk?socket={socket}&tls=required&tls_ca={certificates}/ca-cert.pem"
            f"&tls_name=localhost&tls_certificate={certificates}/client-cert.pem"
            f"&tls_key={certificates}/client-key.pem{options}")  # fmt: skip


@pytest.mark.parametrize("server", [nbdkit, qemu_nbd])
def test_our_client_and_servers_of_others(ours, server, tmp_path):
    socket = tmp_path / "s"
    with server(socket, ours):
        command = [SERVE, "--device", device_uri(socket, ours), "--nbd", "127.0.0.1:0"]
        with running(command, ["ready nbd"]) as daemon:
            client = nbd.NBD()
            client.connect_uri(f"nbd://{daemon.last_words('ready nbd ')[0][0]}/disk")
            data = os.urandom(8 * MIB)
            client.pwrite(data, MIB)
            assert client.pread(8 * MIB, MIB) == data
            client.shutdown()


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda uri, theirs, ours: uri.replace("tls=required", "tls=off"), "tls=required"),
        (lambda uri, theirs, ours: uri.replace("localhost", "elsewhere"), "elsewhere"),
        (lambda uri, theirs, ours: uri.replace(f"{ours}/ca", f"{theirs}/ca"), "certificate"),
        (lambda uri, theirs, ours: uri.replace("ca-cert.pem", "none.pem"), "none.pem"),
        (lambda uri, theirs, ours: uri.split("&tls=")[0], "requires TLS"),
    ],
)
def test_our_client_refuses_what_it_should(ours, theirs, change, text, tmp_path):
    socket = tmp_path / "s"
    with nbdkit(socket, ours):
        uri = change(device_uri(socket, ours), theirs, ours)
        done = subprocess.run([SERVE, "--device", uri, "--nbd", "127.0.0.1:0"],
                              capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
        assert done.returncode != 0 and text in done.stderr, done.stderr
        assert "PRIVATE KEY" not in done.stderr


@pytest.mark.parametrize(
    "words, text",
    [
        (["--nbd-tls", "maybe"], "none of off, allowed, required"),
        (["--nbd-tls", "required"], "needs --nbd-tls-certificate and --nbd-tls-key"),
        (["--nbd-tls-ca", "/x"], "without --nbd-tls allowed"),
        (["--nbd-tls", "allowed", "--nbd-tls-certificate", "/no/c", "--nbd-tls-key", "/no/k"],
         "/no/"),
    ],
)
def test_bad_arguments(words, text):
    command = [SERVE, "--device", "mem:1M", "--nbd", "127.0.0.1:0", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0 and text in done.stderr, done.stderr


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["BB_BUILD_DIR"] = sys.argv[1]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
