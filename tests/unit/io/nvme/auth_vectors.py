#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Vectors of DH-HMAC-CHAP and of NVMe/TCP's pre-shared keys, computed from the specifications with
nothing but Python's hashlib and integers: what the library is compared with.

usage: auth_vectors.py > auth_vectors.h
"""
import base64
import hashlib
import hmac
import zlib

HOST = "nqn.2026-11.io.blockbridge:host:one"
SUBSYSTEM = "nqn.2026-11.io.blockbridge:drive:two"
HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
# RFC 7919, appendix A: p = 2^b - 2^(b-64) + (floor(2^(b-130) e) + x) 2^64 - 1
GROUPS = {1: (2048, 560316), 2: (3072, 2625351), 3: (4096, 5736041), 4: (6144, 15705020),
          5: (8192, 10965728)}


def euler(bits):
    """floor(2^bits e), by the series of 1/n!."""
    total, term, n = 0, 1 << (bits + 64), 0
    while term:
        total += term
        n += 1
        term //= n
    return total >> 64


def prime(group):
    bits, x = GROUPS[group]
    return (1 << bits) - (1 << (bits - 64)) + ((euler(bits - 130) + x) << 64) - 1


def bytes_from(seed, length):
    return hashlib.shake_256(seed.encode()).digest(length)


def secret_text(key, transform):
    checked = key + zlib.crc32(key).to_bytes(4, "little")
    return f"DHHC-1:{transform:02x}:{base64.b64encode(checked).decode()}:"


def key_of(key, transform, nqn):
    if transform == 0:
        return key
    return hmac.digest(key, nqn.encode() + b"NVMe-over-Fabrics", HASHES[transform])


def respond(name, key, challenge, shared, sequence, transaction, who, first, second):
    if shared:
        challenge = hmac.digest(hashlib.new(name, shared).digest(), challenge, name)
    message = challenge + sequence.to_bytes(4, "little") + transaction.to_bytes(2, "little")
    message += b"\0" + who + first.encode() + b"\0" + second.encode()
    return hmac.digest(key, message, name)


def expand_label(name, key, label, context, length):
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label
    info += bytes([len(context)]) + context
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), name)
        out += block
        counter += 1
    return out[:length]


def psk_row(configured_hash, length, suite_hash):
    """TCP transport 1.0 §3.6.1.3: configured -> retained -> TLS PSK, for one cipher suite."""
    configured = bytes_from(f"psk {configured_hash} {length}", length)
    checked = configured + zlib.crc32(configured).to_bytes(4, "little")
    text = f"NVMeTLSkey-1:{configured_hash:02x}:{base64.b64encode(checked).decode()}:"
    retained = configured
    if configured_hash:
        name = HASHES[configured_hash]
        size = hashlib.new(name).digest_size
        extracted = hmac.digest(bytes(size), configured, name)
        retained = expand_label(name, extracted, b"HostNQN", HOST.encode(), length)
    name = HASHES[suite_hash]
    size = hashlib.new(name).digest_size
    identity = f"NVMe0R{suite_hash:02x} {HOST} {SUBSYSTEM}"
    extracted = hmac.digest(bytes(size), retained, name)
    psk = expand_label(name, extracted, b"nvme-tls-psk", identity.encode(), size)
    return text, retained.hex(), suite_hash, identity, psk.hex()


def rows():
    for length, transform in ((32, 0), (48, 0), (64, 0), (32, 1), (48, 2), (64, 3), (32, 3)):
        key = bytes_from(f"secret {length}", length)
        made = key_of(key, transform, HOST)
        yield "secret", (secret_text(key, transform), length, transform, made.hex())
    for hash_id, name in HASHES.items():
        for group in (0, *GROUPS):
            size = hashlib.new(name).digest_size
            key = bytes_from(f"key {name} {group}", 32)
            challenge = bytes_from(f"challenge {name} {group}", size)
            mine = theirs = shared = b""
            if group:
                p = prime(group)
                width = GROUPS[group][0] // 8
                x = int.from_bytes(bytes_from(f"x {group}", 32), "big")
                y = int.from_bytes(bytes_from(f"y {group}", 32), "big")
                mine = x.to_bytes(32, "big")
                theirs = pow(2, y, p).to_bytes(width, "big")
                shared = pow(2, x * y, p).to_bytes(width, "big")
            args = (key, challenge, shared, 0x01020304, 0xABCD)
            yield "proof", (
                hash_id, group, key.hex(), challenge.hex(), mine.hex(), theirs.hex(), shared.hex(),
                respond(name, *args, b"HostHost", HOST, SUBSYSTEM).hex(),
                respond(name, *args, b"Controller", SUBSYSTEM, HOST).hex())
    for configured_hash, length in ((0, 32), (0, 48), (1, 32), (2, 48)):
        for suite_hash in (1, 2):
            yield "psk", psk_row(configured_hash, length, suite_hash)


def literal(value):
    """Long strings in pieces: compilers limit one literal's length, not that of their sum."""
    if isinstance(value, int):
        return str(value)
    pieces = [value[at : at + 80] for at in range(0, len(value), 80)] or [""]
    return " ".join(f'"{piece}"' for piece in pieces)


def main():
    tables = {}
    for kind, row in rows():
        tables.setdefault(kind, []).append("{" + ", ".join(map(literal, row)) + "},")
    print(f'constexpr const char* kHostNqn = "{HOST}";')
    print(f'constexpr const char* kSubsystemNqn = "{SUBSYSTEM}";')
    for kind, lines in tables.items():
        print(f"const {kind.capitalize()}Row k{kind.capitalize()}Rows[] = {{")
        print("\n".join(lines))
        print("};")


main()
