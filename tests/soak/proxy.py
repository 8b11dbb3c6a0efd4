# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy whose connections can be cut, or left standing with nothing moving."""
import contextlib
import socket
import threading


class Proxy:
    def __init__(self, target):
        self.target = target
        self.moving = threading.Event()  # clear: connections stand, and nothing passes
        self.moving.set()
        self.refusing = False
        self.lock, self.ends = threading.Lock(), set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def cut(self):
        with self.lock:
            for end in self.ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stop(self):
        self.refusing = True
        self.moving.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                host, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                host.close()
                continue
            name, port = self.target.rsplit(":", 1)
            try:
                there = socket.create_connection((name, int(port)))
            except OSError:
                host.close()
                continue
            pair = [host, there]
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.ends.update(pair)
            left = [2]
            for source, sink in (pair, pair[::-1]):
                pump = (source, sink, left)
                threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source, sink, left):
        room = memoryview(bytearray(1 << 18))
        with contextlib.suppress(OSError):
            while length := source.recv_into(room):
                self.moving.wait()
                sink.sendall(room[:length])
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self.lock:  # whoever ends last closes both
            left[0] -= 1
            if left[0] == 0:
                for end in (source, sink):
                    self.ends.discard(end)
                    end.close()
