# SPDX-License-Identifier: Apache-2.0
"""Ports for the daemons of a test."""
import random
import socket


def free_port():
    """A port below those the system gives to outgoing connections: a restart finds it free.

    A peer that dials the address of a daemon that is down may be given that very port as its own.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
