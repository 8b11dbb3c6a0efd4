# SPDX-License-Identifier: Apache-2.0
"""Certificates for the TLS of a test."""
import subprocess


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


def make_certificates(at, authority):
    """ca-cert.pem, and server-… and client-… of it: the names that libnbd, nbdkit and qemu want."""
    at.mkdir()
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            f"/CN={authority}", "-keyout", at / "ca-key.pem", "-out", at / "ca-cert.pem",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    for role, use in (("server", "serverAuth"), ("client", "clientAuth")):
        extensions = at / "extensions"
        extensions.write_text(
            f"extendedKeyUsage={use}\nkeyUsage=digitalSignature,keyEncipherment\n"
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        )
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN=the {role}",
                "-keyout", at / f"{role}-key.pem", "-out", at / "request.pem")  # fmt: skip
        openssl("x509", "-req", "-days", "2", "-in", at / "request.pem", "-CA",
                at / "ca-cert.pem", "-CAkey", at / "ca-key.pem", "-CAcreateserial", "-extfile",
                extensions, "-out", at / f"{role}-cert.pem")  # fmt: skip
        (at / f"{role}-key.pem").chmod(0o600)
    return at
