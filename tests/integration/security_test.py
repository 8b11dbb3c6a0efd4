#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""NVMe/TCP by TLS and with secrets: our initiator, `openssl s_client` and strangers at a bb-serve.

usage: security_test.py BUILD_DIR [--only NAME]
"""
import base64
import hashlib
import hmac
import os
import pathlib
import socket
import subprocess
import sys
import threading

import runner
from daemon import Daemon, running

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from tls_bridge import Bridge, s_client as carried_by_s_client, s_server  # noqa: E402

OPTIONS = runner.parse(runner.parser(), ["openssl", "nvme"])
sys.path.insert(0, str(OPTIONS.build / "bindings" / "python"))
try:
    import blockbridge as bb
except ImportError as problem:
    print(f"skipped: the Python module is not built: {problem}")
    sys.exit(77)

HOST = "nqn.2026-11.io.blockbridge:host:alice"
UUID = "6f1d0c2e-4b7a-4f3e-9a55-0d6c1f2b3a49"
NQN = f"nqn.2026-11.io.blockbridge:disk:{UUID}"
IC_BYTES = 128
IC_REQ = bytes([0, 0, IC_BYTES, 0, IC_BYTES]) + bytes(IC_BYTES - 5)  # TCP transport 1.0 §3.6.2.2


def made_by_nvme(kind, prefix, *arguments):
    command = ["nvme", kind, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    (text,) = [word for word in output.split() if word.startswith(prefix)]
    return text


def new_psk(hash_id=1):
    return made_by_nvme("gen-tls-key", "NVMeTLSkey-1:", f"--hmac={hash_id}")


def new_secret():
    return made_by_nvme("gen-dhchap-key", "DHHC-1:", "--hmac=1", f"--nqn={HOST}")


def keep(folder, name, text, mode=0o600):
    path = pathlib.Path(folder, name)
    with open(path, "w", opener=lambda p, f: os.open(p, f, mode), encoding="ascii") as file:
        file.write(text + "\n")
    return path


def expand_label(key, label, context):
    """HKDF-Extract, then HKDF-Expand-Label of RFC 8446 §7.1, one block of SHA-256."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    label = b"tls13 " + label
    info = (32).to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def tls_key(psk, identity):
    """What TCP transport 1.0 §3.6.1.3 makes of a configured key with the hash 01."""
    key = base64.b64decode(psk.split(":")[2])[:32]
    return expand_label(expand_label(key, b"HostNQN", HOST.encode()), b"nvme-tls-psk", identity)


def serving(*arguments):
    command = [OPTIONS.build / "programs" / "bb-serve", "--device", "mem:64M", "--uuid", UUID]
    return running([*command, "--nvme-tcp", "127.0.0.1:0", *arguments], ["ready nvme-tcp"])


def address_of(serve):
    ((address, nqn),) = serve.last_words("export nvme-tcp ")
    assert nqn == NQN, nqn
    return address


def use(address, options, scheme="nvme-tcp"):
    """Writes short and long, reads it back."""
    data = os.urandom(3 << 20)
    with bb.Runtime() as runtime:
        with runtime.open(f"{scheme}://{address}/{NQN}?hostnqn={HOST}&{options}") as device:
            for at, length in ((0, 512), (512, 7680), (8192, len(data) - 8192)):
                device.write(at, data[at : at + length])
            assert device.read(0, len(data)) == data, "other bytes came back"
            device.flush()


def refused(address, options, why, error=bb.PermissionDeniedError):
    try:
        use(address, options)
    except error as problem:
        assert why in problem.text, f"expected \"{why}\": {problem.text}"
        return
    raise AssertionError(f"it was let in with {options}")


def in_the_clear(address):
    """What comes back to a connection in the clear."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        plain.sendall(IC_REQ)
        try:
            return plain.recv(IC_BYTES)
        except ConnectionResetError:
            return b""


def s_client(address, identity, key, *more, suites="TLS_AES_128_GCM_SHA256"):
    """An initialization of NVMe/TCP through OpenSSL's own client: what came back, what it said."""
    command = ["openssl", "s_client", "-connect", address, "-psk", key.hex(), "-quiet",
               "-psk_identity", identity, "-no_ign_eof", *more]  # fmt: skip
    if suites:
        command += ["-ciphersuites", suites]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as client:  # fmt: skip
        try:
            client.stdin.write(IC_REQ)
            client.stdin.flush()
            got = client.stdout.read(IC_BYTES)
        except BrokenPipeError:
            got = b""
        client.kill()
        return got, client.stderr.read().decode()


def test_tls_between_our_two_sides(folder):
    for hash_id in (1, 2):
        psk = new_psk(hash_id)
        key = keep(folder, f"psk{hash_id}", psk)
        arguments = ["--tls", "required", "--host-psk", f"{HOST}={key}"]
        with serving(*arguments) as serve:
            address = address_of(serve)
            for digest in ("on", "off"):
                use(address, f"tls=1&tls_psk_file={key}&digest={digest}&queues=2")
            use(address, f"tls_psk_file={key}", "nvme-tcp+discover")
            wrong = keep(folder, f"wrong{hash_id}", new_psk(hash_id))
            refused(address, f"tls_psk_file={wrong}", "TLS: ")
            refused(address, "connect_timeout=1s", "", bb.Error)
            assert in_the_clear(address) == b""
            use(address, f"tls_psk_file={key}")


def test_openssl_as_the_host(folder):
    psk = new_psk()
    key = keep(folder, "psk", psk)
    identity = f"NVMe0R01 {HOST} {NQN}"
    right = tls_key(psk, identity.encode())
    with serving("--tls", "required", "--host-psk", f"{HOST}={key}") as serve:
        address = address_of(serve)
        got, said = s_client(address, identity, right, "-tls1_3")
        assert len(got) == IC_BYTES and got[0] == 1, f"no ICResp by TLS: {got!r} {said}"
        # In OpenSSL's own order AES-256 comes first, for which the key is none.
        for suites in (None, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"):
            got, said = s_client(address, identity, right, "-tls1_3", suites=suites)
            assert len(got) == IC_BYTES and got[0] == 1, f"{suites}: {got!r} {said}"
        got, said = s_client(address, identity, right, "-tls1_3", suites="TLS_AES_256_GCM_SHA384")
        assert got == b"" and "alert" in said, f"a suite that the key is not for: {got!r} {said}"
        for name, secret, more in (
            (identity, os.urandom(32), ["-tls1_3"]),
            (identity.replace("alice", "mallory"), right, ["-tls1_3"]),
            (identity, right, ["-tls1_2"]),
        ):
            got, said = s_client(address, name, secret, *more)
            assert got == b"" and "alert" in said, f"{name} {more}: {got!r} {said}"


def test_openssl_carries_the_data_for_either_side(folder):
    psk = new_psk()
    key = keep(folder, "psk", psk)
    identity = f"NVMe0R01 {HOST} {NQN}"
    right, wrong = tls_key(psk, identity.encode()), os.urandom(32)
    with serving("--tls", "required", "--host-psk", f"{HOST}={key}") as serve:
        with Bridge(carried_by_s_client(identity, right), address_of(serve)) as bridge:
            use(bridge.address, "connect_timeout=20s&queues=2")
    with serving() as serve:
        with Bridge(s_server(identity, right), address_of(serve)) as bridge:
            use(bridge.address, f"connect_timeout=20s&queues=2&tls_psk_file={key}")
        with Bridge(s_server(identity, wrong), address_of(serve)) as bridge:
            refused(bridge.address, f"connect_timeout=20s&tls_psk_file={key}", "TLS: ")
        # A host that was given a key says nothing to a target without TLS.
        refused(address_of(serve), f"connect_timeout=1s&tls_psk_file={key}", "", bb.Error)


def test_keys_of_some_hosts_shut_the_others_out(folder):
    key = keep(folder, "psk", new_psk())
    with serving("--tls", "allowed", "--host-psk", f"{HOST}={key}") as serve:
        address = address_of(serve)
        use(address, f"tls_psk_file={key}")
        assert len(in_the_clear(address)) == IC_BYTES  # for subsystems without keys
        refused(address, "", "invalid host")


def test_secrets_and_tls_together(folder):
    psk, host, controller = new_psk(), new_secret(), new_secret()
    keys = {"psk": psk, "host": host, "ctrl": controller, "wrong": new_secret()}
    files = {name: keep(folder, name, text) for name, text in keys.items()}
    arguments = ["--tls", "required", "--host-psk", f"{HOST}={files['psk']}"]
    arguments += ["--host-secret", f"{HOST}={files['host']}", "--ctrl-secret", files["ctrl"]]
    log = Daemon([OPTIONS.build / "programs" / "bb-serve", "--device", "mem:64M", "--uuid", UUID,
                  "--nvme-tcp", "127.0.0.1:0", "--log-level", "debug", *arguments],
                 ["ready nvme-tcp"])  # fmt: skip
    try:
        tls = f"tls_psk_file={files['psk']}"
        right = f"{tls}&dhchap_secret_file={files['host']}"
        use(address_of(log), f"{right}&dhchap_ctrl_secret_file={files['ctrl']}&queues=2")
        refused(address_of(log), tls, "give a dhchap_secret_file")
        refused(address_of(log), f"{tls}&dhchap_secret_file={files['wrong']}",
                "the controller refuses us")  # fmt: skip
        refused(address_of(log), f"{right}&dhchap_ctrl_secret_file={files['wrong']}",
                "the controller has another secret")  # fmt: skip
    finally:
        log.process.terminate()
        output, errors = log.process.communicate(timeout=20)
    assert "by TLS" in errors, errors
    for text in keys.values():
        assert text.split(":")[2][:16] not in output + errors, "a secret is in the log"


def test_exports_of_the_library(folder):
    """The same from within a process: what bb-serve does goes by way of Python, too."""
    texts = {"psk": new_psk(), "host": new_secret(), "ctrl": new_secret(), "wrong": new_secret(),
             "psk2": new_psk()}  # fmt: skip
    files = {name: keep(folder, name, text) for name, text in texts.items()}
    with bb.Runtime() as runtime, runtime.open("mem:8M") as device:
        secrets = {"host_secrets": {HOST: files["host"]}, "ctrl_secret": files["ctrl"]}
        with device.export("nvme-tcp", "127.0.0.1:0", NQN, **secrets) as exported:
            address = exported.uri.split("/")[2]
            right = f"dhchap_secret_file={files['host']}"
            use(address, f"{right}&dhchap_ctrl_secret_file={files['ctrl']}&queues=2")
            refused(address, "", "give a dhchap_secret_file")
            refused(address, f"dhchap_secret_file={files['wrong']}", "the controller refuses us")
            refused(address, f"{right}&dhchap_ctrl_secret_file={files['wrong']}",
                    "the controller has another secret")  # fmt: skip
        tls = {"tls": "required", "host_psks": {HOST: files["psk"]}}
        with device.export("nvme-tcp", "127.0.0.1:0", NQN, **tls) as exported:
            address = exported.uri.split("/")[2]
            use(address, f"tls_psk_file={files['psk']}")
            refused(address, f"tls_psk_file={files['psk2']}", "TLS: ")
            assert in_the_clear(address) == b""
            discover(address, files)
        files["psk"].chmod(0o640)
        try:
            device.export("nvme-tcp", "127.0.0.1:0", NQN, **tls)
            raise RuntimeError("it took a key that others may read")
        except bb.PermissionDeniedError as problem:
            assert "others than its owner may read" in problem.text, problem.text


def discover(address, files):
    """A discovery service that answers by TLS only: with the right key, wrong ones."""
    told = threading.Event()
    with bb.Runtime() as other:
        with bb.Discovery(other, address, lambda rows: told.set(), HOST, files["psk"]):
            assert told.wait(20), "no answer by TLS"
    program = OPTIONS.build / "programs" / "bb" / "bb"
    command = [program, "target", "discover", address, "-o", "json"]
    host = ["--host-nqn", HOST]
    for words, expected in (([*host, "--tls-psk", files["psk"]], NQN),
                            ([*host, "--tls-psk", files["psk2"]], "TLS: "),
                            (["--tls-psk", files["psk"]], "give its --host-nqn")):  # fmt: skip
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=30,
                              check=False)  # fmt: skip
        assert (done.returncode == 0) == (expected == NQN), done
        assert expected in done.stdout + done.stderr, done


def test_files_that_others_may_read_are_refused(folder):
    key, secret = keep(folder, "psk", new_psk(), 0o644), keep(folder, "host", new_secret(), 0o640)
    for arguments in (["--tls", "allowed", "--host-psk", f"{HOST}={key}"],
                      ["--host-secret", f"{HOST}={secret}"]):  # fmt: skip
        try:
            with serving(*arguments):
                raise RuntimeError(f"bb-serve took {arguments}")
        except AssertionError as ended:
            assert "others than its owner may read" in str(ended), ended


if __name__ == "__main__":
    runner.run([value for name, value in list(globals().items()) if name.startswith("test_")],
               OPTIONS)  # fmt: skip
