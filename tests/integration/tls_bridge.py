# SPDX-License-Identifier: Apache-2.0
"""Puts OpenSSL's own programs, which know nothing of ours, between a host and a target: they do
either one's side of TLS."""
import socket
import subprocess
import threading
import time

from ports import free_port


class Bridge:
    """Connections to `address` go on to `target`, each by way of a process of its own.

    `command(target)` gives its words, and the port it listens on for TLS (s_server) or None
    (s_client, which dials itself).
    """

    def __init__(self, command, target):
        self.command, self.target, self.processes = command, target, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for process in self.processes:
            process.kill()
            process.wait()

    def _run(self):
        while True:
            try:
                host, _ = self.listener.accept()
            except OSError:
                return
            words, port = self.command(self.target)
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, bufsize=0)  # fmt: skip
            self.processes.append(process)
            if port is None:  # host <-> s_client <-> target
                self._join(host, process)
            else:  # host <-> s_server <-> target
                name, number = self.target.rsplit(":", 1)
                self._join(socket.create_connection((name, int(number))), process)
                self._pair(host, dialled(port))

    def _join(self, one, process):
        def up():
            while data := one.recv(1 << 16):
                view = memoryview(data)
                while view:
                    view = view[process.stdin.write(view) :]

        self._start(lambda: pour(lambda: process.stdout.read(1 << 16), one), one)
        self._start(up, one)

    def _pair(self, one, two):
        for here, there in ((one, two), (two, one)):
            self._start(lambda here=here, there=there: pour(lambda: here.recv(1 << 16), there),
                        there)  # fmt: skip

    @staticmethod
    def _start(work, end):
        def run():
            try:
                work()
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

        threading.Thread(target=run, daemon=True).start()


def pour(read, into):
    while data := read():
        into.sendall(data)


def dialled(port):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.01)
    raise AssertionError(f"nobody listens on port {port}")


def keyed(identity, key):
    return ["-tls1_3", "-psk", key.hex(), "-psk_identity", identity, "-quiet",
            "-ciphersuites", "TLS_AES_128_GCM_SHA256"]  # fmt: skip


def s_client(identity, key):
    """OpenSSL is the host's side of TLS."""
    return lambda target: (["openssl", "s_client", "-connect", target, *keyed(identity, key)], None)


def s_server(identity, key):
    """OpenSSL is the target's side of TLS."""

    def command(_):
        port = free_port()
        return ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-nocert",
                *keyed(identity, key)], port  # fmt: skip

    return command
