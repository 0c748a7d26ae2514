"""Certificates for tests: an authority, a server on loopback and a client."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files in one directory."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    def server_context(self, *, demand_client: bool = False) -> ssl.SSLContext:
        """Return a context for a server that proves itself, and may demand the same."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if demand_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(directory: Path) -> Certificates:
    """Make all of them anew."""
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority")
    pairs = []
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        signing = ["-CA", ca, "-CAkey", ca_key, "-addext", extension, "-subj", f"/CN={name}"]
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", certificate, *signing)
        pairs += [certificate, key]
    return Certificates(ca, *pairs)


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
