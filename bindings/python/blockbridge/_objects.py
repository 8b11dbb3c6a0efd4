# SPDX-License-Identifier: Apache-2.0
"""The nouns of the library: Runtime, Device, Array, Export, DiskNode."""
import asyncio
import json

from . import _core
from ._errors import error_from

# In the order of bb_reservation_action (from 1) and bb_reservation_type (from 0).
_RESERVATION_ACTIONS = ("register", "unregister", "replace", "acquire", "preempt",
                        "preempt-and-abort", "release", "clear")  # fmt: skip
_RESERVATION_TYPES = ("none", "write-exclusive", "exclusive-access", "write-exclusive-registrants",
                      "exclusive-access-registrants", "write-exclusive-all",
                      "exclusive-access-all")  # fmt: skip

log_level_set = _core.log_level_set


def version():
    """The library's version, "0.1.0"."""
    return _core.version()


def local_drives():
    """The NVMe drives of this machine, a list of dicts: name, model, namespaces, health and more.

    `source` is "simulated" when a program answers for the drive. Health needs root.
    """
    return json.loads(_core.local_drives_json())


class _HasStats:
    """What the I/O was like. `_stats_handle()` is whoever the library asks."""

    @property
    def counters(self):
        """A dict: reads, writes, others, their bytes and errors, in_flight, reconnects and more."""
        return self._stats_handle().counters()

    def stats(self):
        """Counters, latencies by stage and the slow and failed commands, as bb_device_get_stats()
        tells them: a dict."""
        return json.loads(self._stats_handle().stats_json())

    def latency(self, op="read", stage="total"):
        """The histogram of a stage as a numpy array of rows (first_ns, last_ns, count), uint64.
        Histograms of several objects are merged by adding up the counts of equal rows."""
        import numpy  # only who wants arrays needs it

        histogram = self.stats()[op]["latency"].get(stage, {"buckets": []})
        return numpy.array(histogram["buckets"], dtype=numpy.uint64).reshape(-1, 3)


class _Closes:
    """close(), idempotent, and the context manager over it."""

    def close(self):
        self._handle.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class _DoesIo(_HasStats):
    """Reading and writing; offsets and lengths in bytes, multiples of block_size."""

    def _io(self):
        return self._handle.io()

    def _stats_handle(self):
        return self._io()

    @property
    def info(self):
        """size_bytes, block_size_bytes, transfer_max_bytes, read_only, volatile_cache, ready."""
        return self._io().info()

    @property
    def size(self):
        return self.info["size_bytes"]

    @property
    def block_size(self):
        return self.info["block_size_bytes"]

    def read(self, offset, length):
        """`length` bytes at `offset`, as bytes."""
        return self._io().read(offset, length)

    def read_into(self, offset, buffer):
        """Fills a writable buffer from `offset` on, without a copy; its length in bytes."""
        return self._io().read_into(offset, buffer)

    def write(self, offset, buffer):
        """Writes the whole buffer at `offset`; durable after flush()."""
        return self._io().write(offset, buffer)

    def flush(self):
        self._io().flush()

    def discard(self, offset, length):
        """Frees the range; what it then holds is undefined."""
        self._io().discard(offset, length)

    def write_zeroes(self, offset, length):
        self._io().write_zeroes(offset, length)

    def extents(self, offset=0, length=None):
        """Yields (offset, length, hole, zero) of each run of bytes that are alike."""
        end = self.size if length is None else offset + length
        while offset < end:
            for run, flags in self._io().extents(offset, end - offset):
                yield offset, run, bool(flags & 1), bool(flags & 2)
                offset += run

    # asyncio: one request each, at most info["transfer_max_bytes"]; many may be in flight.

    async def aread(self, offset, length):
        buffer = bytearray(length)
        await self._submit(_core.IoOp.READ, offset, buffer)
        return bytes(buffer)

    async def aread_into(self, offset, buffer):
        await self._submit(_core.IoOp.READ, offset, buffer)

    async def awrite(self, offset, buffer, fua=False):
        await self._submit(_core.IoOp.WRITE, offset, buffer, fua=fua)

    async def aflush(self):
        await self._submit(_core.IoOp.FLUSH, 0, None)

    async def adiscard(self, offset, length):
        await self._submit(_core.IoOp.DISCARD, offset, None, length)

    async def awrite_zeroes(self, offset, length, fua=False):
        await self._submit(_core.IoOp.WRITE_ZEROES, offset, None, length, fua)

    def _submit(self, op, offset, buffer, length=0, fua=False):
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def settle(code, text):
            if future.cancelled():
                return
            if code == 0:
                future.set_result(None)
            else:
                future.set_exception(error_from(code, text))

        def done(code, text):  # on the runtime's thread
            try:
                loop.call_soon_threadsafe(settle, code, text)
            except RuntimeError:
                pass  # the event loop has ended: nobody waits any more

        self._io().submit(op, offset, buffer, length, fua, done)
        return future


class Runtime(_Closes):
    """What everything else lives in: one thread that does the I/O. Close it last.

    engine: "auto" (io_uring, or epoll where that is refused), "io_uring" or "epoll".
    spin: look up to 100 us for what may come before sleeping, as long as that pays.
    """

    def __init__(self, engine="auto", spin=True):
        try:
            kind = _core.Engine.__members__[engine]
        except KeyError:
            raise ValueError(f"engine {engine!r} is none of auto, io_uring, epoll") from None
        self._handle = _core.Runtime(kind, spin)

    @property
    def engine(self):
        """What does the I/O: "io_uring" or "epoll"."""
        return self._handle.engine().name

    def open(self, uri):
        """Opens a device: "file:/path?create=1&size=1G", "mem:1G", "nvme-tcp://host:4420/NQN",
        "nbd://host/export"."""
        return Device(self, uri)

    def create(self, backend, size, block_size=512, threads=1, name="python"):
        """A device whose work an object of yours does; used, mirrored and exported like any other.

        backend.read(offset, buffer) fills a writable memoryview. It may have write(offset, data),
        without which the device is read-only; flush(), without which every write counts as durable
        when it returns; discard(offset, length) and write_zeroes(offset, length). The memory is
        lent until the method returns: a numpy array made of it must not be kept. Methods run on
        `threads` threads of the device, with one of them one after the other, and may block. A
        blockbridge.Error that they raise is what the reader or writer gets; other exceptions are
        I/O errors there.
        """
        shape = _core.Shape(size, block_size, threads, name)
        return Device(self, None, _core.Device(self._handle, backend, shape))

    def metrics(self):
        """All that is open in the runtime, as Prometheus text: the body of a /metrics."""
        return self._handle.metrics()


class Device(_DoesIo, _Closes):
    def __init__(self, runtime, uri, handle=None):
        self._runtime = runtime
        self._handle = handle or _core.Device(runtime._handle, uri)

    @property
    def paths(self):
        """The ways to an nvme-tcp device, a list of dicts: address, state, access, in_flight,
        latency_ns, connects, failures, detail."""
        return json.loads(self._io().paths_json())

    def reserve(self, action, key=0, other_key=0, type="none", ignore_key=False, persist=None):
        """Carries out one reservation command of an nvme-tcp device, for the host of its URI.

        action: "register" (other_key: the new one), "unregister", "replace", "acquire", "preempt",
        "preempt-and-abort" (other_key: whose registration ends), "release" or "clear". type: what
        is acquired, preempted or released, as `reservation` names it. ignore_key and persist (True,
        False: through loss of power, None: as it is) are of the first three.
        """
        flags = (1 if ignore_key else 0) | {None: 0, True: 2, False: 4}[persist]
        if action not in _RESERVATION_ACTIONS or type not in _RESERVATION_TYPES:
            raise ValueError(f"no reservation action {action!r} of type {type!r}")
        self._io().reserve(1 + _RESERVATION_ACTIONS.index(action),
                           _RESERVATION_TYPES.index(type), flags, key, other_key)  # fmt: skip

    @property
    def reservation(self):
        """Who may access an nvme-tcp device: a dict of generation, type, persistent and hosts, a
        list of dicts of host (its UUID), key (an int) and holds."""
        report = json.loads(self._io().reservation_json())
        for host in report["hosts"]:
            host["key"] = int(host["key"], 16)
        return report

    def export(self, kind, listen, name="", allowed_hosts=(), **more):
        """Offers the device on the network; see Export."""
        return Export(self, kind, listen, name, allowed_hosts, **more)


class Array(_DoesIo, _Closes):
    """RAID over devices. `store` ("file:/path/cluster.db") records which members are valid."""

    def __init__(self, members, handle):
        self._members = list(members)  # borrowed by the array: kept alive as long as it
        self._handle = handle

    @classmethod
    def create(cls, members, name, store, assume_clean=False, level="1", copies=0, chunk_bytes=0,
               integrity="", slow_fail=0.0):  # fmt: skip
        """Makes a new array of devices; what they held is lost.

        `level`: "0" (1 to 64 members, no redundancy), "1" (2 to 8), "1E" (odd numbers), "10" (3 to
        64), "5" (3 to 64) or "6" (4 to 64). `assume_clean`: copies are equal, no initial sync; of
        5 and 6 the members are zeroed in any case. `copies` of each block, of level 10 (2 to 8,
        default 2); `chunk_bytes`: consecutive bytes on one member, not of level 1, a power of two
        from 4096 to 16777216 (default 65536). `integrity`: "crc32c" keeps a checksum of each 4 KiB
        of each member, compared on every read; "none"; by default crc32c, but none for level 0.
        `slow_fail`: a member that is much slower than its peers for so many seconds is failed, if
        the array holds everything without it; 0: never, it is only avoided.
        """
        shape = (level, copies, chunk_bytes, integrity, int(slow_fail * 1000))
        return cls(members, cls._open(members, name, store, assume_clean, True, shape))

    @classmethod
    def assemble(cls, members, store, name="", slow_fail=0.0):
        """Starts an array from whichever of its members are given, in any order."""
        shape = ("1", 0, 0, "", int(slow_fail * 1000))
        return cls(members, cls._open(members, name, store, False, False, shape))

    @staticmethod
    def _open(members, name, store, assume_clean, fresh, shape):
        if not members:
            raise error_from(1, "an array needs members")
        handles = [member._handle for member in members]
        runtime = members[0]._runtime._handle
        return _core.Array(runtime, handles, name, store, assume_clean, fresh, *shape)

    @property
    def state(self):
        """A dict: name, uuid, state, version, dirty_regions, resync, members and more."""
        return json.loads(self._handle.info_json())

    def fail_member(self, uuid):
        self._handle.fail_member(uuid)

    def readmit_member(self, uuid):
        """Takes a failed member back; only what it missed is copied."""
        self._handle.readmit_member(uuid)

    def replace_member(self, uuid, fresh, force=False):
        """The device `fresh` takes the place of a member; everything is copied onto it.

        It must hold no array, unless `force`. The array uses it from then on, until it is closed.
        """
        self._handle.replace_member(uuid, fresh._handle, force)
        self._members.append(fresh)

    def remove_member(self, uuid):
        """Forgets a member for good; replace_member() gives its place to another device."""
        self._handle.remove_member(uuid)

    def set_resync_rate(self, limit, least_beside_host=0):
        """Bytes per second of resync and scrub: at most (0: no limit), and least beside a host."""
        self._handle.set_resync_rate(limit, least_beside_host)

    def scrub(self, resume=False):
        """Compares every copy of everything, and rewrites what a checksum proves wrong.

        From the beginning or, with resume, from where an interrupted or paused scrub is.
        Returns a dict: checked_bytes, skipped_bytes, repaired_blocks, unrepaired_blocks, findings
        (the first 1000: offset_bytes of a block of 4 KiB, repaired).
        """
        run = self._handle.scrub_resume_json if resume else self._handle.scrub_json
        return json.loads(run())

    def scrub_pause(self):
        """From another thread: scrub() raises CancelledError soon, and can be resumed."""
        self._handle.scrub_pause()

    def scrub_cancel(self):
        """From another thread: scrub() raises CancelledError soon. It has ended."""
        self._handle.scrub_cancel()

    @property
    def scrub_info(self):
        """The present or latest scrub (state, percent, ...), and those before it (history)."""
        return json.loads(self._handle.scrub_info_json())

    def wait_clean(self, timeout=60.0):
        """Waits until nothing is left to copy; TimedOutError after `timeout` seconds."""
        self._handle.wait_clean(int(timeout * 1000))

    def export(self, kind, listen, name="", allowed_hosts=(), **more):
        return Export(self, kind, listen, name, allowed_hosts, **more)


class Export(_HasStats, _Closes):
    """A device for hosts: kind "nvme-tcp" or "nbd", listen "127.0.0.1:0" or "unix:/path" (NBD).

    Kind "ublk" makes a block device of this machine: listen "3" for /dev/ublkb3, or "any".

    NVMe/TCP: host_secrets ({host NQN: file}, DH-HMAC-CHAP) and host_psks (likewise, keys for TLS,
    which go with tls="required" or "allowed") say who may come and how he proves it; ctrl_secret is
    the file of the secret that proves us. Secrets are read from files of mode 0600.

    NBD: read_only refuses writes; exclusive serves one connection at a time, a new one ends the one
    before it; tls is "off", "allowed" or "required", with PEM files.
    """

    def __init__(self, device, kind, listen, name="", allowed_hosts=(), read_only=False,
                 exclusive=False, tls="off", tls_certificate="", tls_key="", tls_ca="",
                 host_secrets=None, host_psks=None, ctrl_secret=""):  # fmt: skip
        options = _core.ExportOptions()
        options.name, options.allowed_hosts, options.tls = name, list(allowed_hosts), tls
        options.host_secrets = [
            _core.HostSecret(nqn, str(file), "") for nqn, file in (host_secrets or {}).items()
        ] + [_core.HostSecret(nqn, "", str(file)) for nqn, file in (host_psks or {}).items()]
        options.ctrl_secret = str(ctrl_secret)
        options.read_only, options.exclusive = read_only, exclusive
        options.tls_certificate, options.tls_key = str(tls_certificate), str(tls_key)
        options.tls_ca = str(tls_ca)
        self._device = device
        self._handle = _core.Export(device._io(), kind, listen, options)

    def _stats_handle(self):
        return self._handle

    @property
    def uri(self):
        return self._handle.uri()


class Discovery(_Closes):
    """What an NVMe/TCP discovery service names: `changed` gets a list of dicts (nqn, address, uri),
    on the runtime's thread, first what there is and then at every change, until close().

    With tls_psk, the file of the key that host_nqn has, it is asked by TLS or not at all.
    """

    def __init__(self, runtime, address, changed, host_nqn="", tls_psk=""):
        self._runtime = runtime
        self._handle = _core.Discovery(runtime._handle, address, host_nqn, str(tls_psk),
                                       lambda text: changed(json.loads(text)))  # fmt: skip


class DiskNode(_Closes):
    """Publishes drives over the network, from a YAML file; see bb-disknode(1)."""

    def __init__(self, runtime, config_path):
        self._runtime = runtime
        self._handle = _core.DiskNode(runtime._handle, str(config_path))

    @property
    def state(self):
        return json.loads(self._handle.info_json())
