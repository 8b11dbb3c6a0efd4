# SPDX-License-Identifier: Apache-2.0
"""Blockbridge: redundant virtual disks from drives spread over the network.

    import blockbridge as bb

    with bb.Runtime() as runtime, runtime.open("mem:64M") as device:
        device.write(0, b"hello".ljust(512))
        print(device.read(0, 512))

Everything is a context manager; closing twice is harmless. Calls release the GIL. Buffers are
anything with the buffer protocol (bytes, bytearray, memoryview, C-contiguous numpy arrays) and are
not copied.
`aread`, `awrite` and their like are awaitables for asyncio. Errors are subclasses of Error.
"""
from ._errors import *  # noqa: F401,F403
from ._errors import __all__ as _error_names
from ._objects import (
    Array,
    Device,
    Discovery,
    DiskNode,
    Export,
    Runtime,
    local_drives,
    log_level_set,
    version,
)

__all__ = ["Array", "Device", "Discovery", "DiskNode", "Export", "Runtime"]
__all__ += ["local_drives", "log_level_set", "version"]
__all__ += _error_names
