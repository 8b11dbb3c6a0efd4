# SPDX-License-Identifier: Apache-2.0
"""Ports for the daemons of a test."""
import itertools
import os
import socket

_FIRST, _COUNT = 20000, 12000
# Tests that run at once begin in different places, and none gives a port to two of its daemons.
_turns = itertools.count(os.getpid() * 251)


def free_port():
    """A port below those the system gives to outgoing connections: a restart finds it free.

    A peer that dials the address of a daemon that is down may be given that very port as its own.
    """
    for turn in _turns:
        port = _FIRST + turn % _COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("the turns never end")
