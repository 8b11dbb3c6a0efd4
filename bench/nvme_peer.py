# SPDX-License-Identifier: Apache-2.0
"""Just enough of an NVMe/TCP host to misbehave: connections that stop wherever one likes.

PDUs as in the TCP transport specification 1.0, section 3.6; commands as in NVMe base 2.0.
"""
import socket
import struct
import uuid

COMMAND, RESPONSE = 0x04, 0x05
IC_REQUEST = struct.pack("<BBBBIHBBI", 0x00, 0, 128, 0, 128, 0, 0, 0, 0) + bytes(112)
TRANSPORT_DATA, IN_CAPSULE = 0x5A, 0x01


def capsule(opcode, command_id, nsid=0, length=0, sgl=TRANSPORT_DATA, cdw10_15=(0,) * 6, data=b""):
    entry = struct.pack("<BBHIQQ", opcode, 0x40, command_id, nsid, 0, 0)
    entry += struct.pack("<QIBBBB", 0, length, 0, 0, 0, sgl)
    entry += struct.pack("<6I", *cdw10_15)
    return struct.pack("<BBBBI", COMMAND, 0, 72, 72 if data else 0, 72 + len(data)) + entry + data


def connect_capsule(queue_id, entries, controller, subsystem_nqn, host_nqn, host_id):
    data = host_id.bytes + struct.pack("<H", controller) + bytes(238)
    data += subsystem_nqn.encode().ljust(256, b"\0") + host_nqn.encode().ljust(256, b"\0")
    data = data.ljust(1024, b"\0")
    words = (queue_id << 16, entries - 1, 60_000 if queue_id == 0 else 0, 0, 0, 0)
    return capsule(0x7F, 1, 1, 1024, IN_CAPSULE, words, data)


def read_capsule(command_id, first_block, blocks, block_bytes=512):
    words = (first_block & 0xFFFFFFFF, first_block >> 32, blocks - 1, 0, 0, 0)
    return capsule(0x02, command_id, 1, blocks * block_bytes, cdw10_15=words)


def write_capsule(command_id, first_block, blocks, block_bytes=512):
    words = (first_block & 0xFFFFFFFF, first_block >> 32, blocks - 1, 0, 0, 0)
    return capsule(0x01, command_id, 1, blocks * block_bytes, cdw10_15=words)


class Peer:
    """One connection. Blocking, for setting up; then its socket is the caller's to neglect."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))

    def exactly(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise ConnectionError("the target closed the connection")
            data += piece
        return data

    def response(self):
        """(result, status) of the next response capsule."""
        header = self.exactly(8)
        assert header[0] == RESPONSE, f"PDU type {header[0]:#x} where a response was due"
        entry = self.exactly(16)
        result, _, _, _, status = struct.unpack("<QHHHH", entry)
        return result, status >> 1

    def start(self):
        self.socket.sendall(IC_REQUEST)
        self.exactly(128)

    def connect(self, queue_id, entries, controller, subsystem_nqn, host_nqn, host_id):
        self.start()
        self.socket.sendall(
            connect_capsule(queue_id, entries, controller, subsystem_nqn, host_nqn, host_id)
        )
        result, status = self.response()
        if status != 0:
            raise ConnectionError(f"Connect: status {status:#x}")
        return result & 0xFFFF

    def enable(self):
        words = (0, 0x14, (6 << 16) | (4 << 20) | 1, 0, 0, 0)
        self.socket.sendall(capsule(0x7F, 2, 0, cdw10_15=words))
        assert self.response()[1] == 0, "the controller cannot be enabled"


class Host:
    """A host with its admin connection and I/O connections."""

    def __init__(self, port, subsystem_nqn, number, queues, entries=128, receive_buffer=None):
        host_id = uuid.UUID(int=(0xBB << 112) + number + 1)
        nqn = f"nqn.2026-11.io.blockbridge:host:{host_id}"
        self.admin = Peer(port)
        controller = self.admin.connect(0, 32, 0xFFFF, subsystem_nqn, nqn, host_id)
        self.admin.enable()
        self.queues = []
        for queue_id in range(1, queues + 1):
            peer = Peer(port, receive_buffer)
            peer.connect(queue_id, entries, controller, subsystem_nqn, nqn, host_id)
            self.queues.append(peer)
