# SPDX-License-Identifier: Apache-2.0
"""What happens to a target and to the connections to it while it is used."""
import collections
import contextlib
import pathlib
import random
import socket
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS.parent / "bench")]
from machines import call  # noqa: E402
from nvme_peer import IC_REQUEST, Host, capsule  # noqa: E402

KEEP_ALIVE = 1.0  # seconds, of all hosts here


class Disturbances:
    """rude: the nsid of a namespace that no one else uses."""

    def __init__(self, proxies, ports, control, nqn, rude, file_uri, seed):
        self.proxies, self.ports, self.control = proxies, ports, control
        self.nqn, self.rude, self.file_uri = nqn, rude, file_uri
        self.random = random.Random(seed)
        self.done = {}
        self.last = collections.deque(maxlen=10)  # when, and what
        self.hosts = 0

    def one(self):
        kinds = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        kind = self.random.choice(kinds)
        name = kind.__name__.removeprefix("do_")
        self.last.append(f"{time.strftime('%H:%M:%S')} {name}")
        # A rude host on a busy machine may be cut off before it has done its worst.
        with contextlib.suppress(ConnectionError, TimeoutError):
            kind()
        self.done[name] = self.done.get(name, 0) + 1

    def some_proxies(self):
        return self.random.sample(self.proxies, self.random.randint(1, len(self.proxies)))

    def do_cut(self):
        for proxy in self.some_proxies():
            proxy.cut()

    def do_refuse(self):
        proxies = self.some_proxies()
        for proxy in proxies:
            proxy.refusing = True
            proxy.cut()
        time.sleep(self.random.uniform(0.2, 2))
        for proxy in proxies:
            proxy.refusing = False

    def do_black_hole(self):
        """Longer than keep alive; then all that was held back arrives at once, or never."""
        proxies = self.some_proxies()
        for proxy in proxies:
            proxy.moving.clear()
        time.sleep(KEEP_ALIVE * self.random.uniform(0.5, 4))
        if self.random.random() < 0.5:
            for proxy in proxies:
                proxy.cut()
        for proxy in proxies:
            proxy.moving.set()

    def do_access(self):
        port = self.random.choice([0, 1, 2])  # 0: by all addresses
        group = self.random.randint(1, 4)
        state = self.random.choice(["non-optimized", "inaccessible", "change"])
        call(self.control, "ana.set", port=port, group=group, state=state)
        time.sleep(self.random.uniform(0.1, 2))
        call(self.control, "ana.set", port=port, group=group, state="optimized")

    def do_namespace(self):
        added = call(self.control, "namespace.add", device="mem:1M")
        time.sleep(self.random.uniform(0, 0.5))
        call(self.control, "namespace.remove", nsid=added["nsid"])

    def do_replace(self):
        call(self.control, "namespace.replace", nsid=2, device=self.file_uri)

    def do_garbage(self):
        for port in self.ports:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as one:
                if self.random.random() < 0.5:
                    one.sendall(IC_REQUEST)
                one.sendall(self.random.randbytes(self.random.randint(1, 4096)))
                one.settimeout(0.2)
                with contextlib.suppress(OSError):
                    one.recv(1024)

    def rude_host(self):
        self.hosts += 1
        host = Host(self.ports[0], self.nqn, self.hosts, 2)
        reads = [self.command(0x02, number) for number in range(40)]
        writes = [self.command(0x01, number) for number in range(40, 60)]
        for queue in host.queues:
            queue.socket.sendall(b"".join([*reads, *writes])[: self.random.randint(1, 4320)])
        return host

    def command(self, opcode, number):
        words = (number * 8, 0, 255, 0, 0, 0)
        return capsule(opcode, number, self.rude, 256 * 512, cdw10_15=words)

    @staticmethod
    def leave(host):
        for peer in [*host.queues, host.admin]:
            peer.socket.close()

    def do_go_away(self):
        """In mid-command, and with some commands not sent to their ends."""
        host = self.rude_host()
        time.sleep(self.random.choice([0, 0.01, 0.3]))
        self.leave(host)

    def do_reset(self):
        """The controller is disabled with commands in flight."""
        host = self.rude_host()
        words = (0, 0x14, 0, 0, 0, 0)
        host.admin.socket.sendall(capsule(0x7F, 3, 0, cdw10_15=words))
        with contextlib.suppress(OSError):
            host.admin.response()
        self.leave(host)
