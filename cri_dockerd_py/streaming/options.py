"""Settings and limits of the streaming server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cri_dockerd_py.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class StreamingOptions:
    """Where the server listens and how long it waits for what; the defaults are those that clients expect."""

    address: str = "127.0.0.1"
    port: int = 0
    tls_cert_file: str = ""
    tls_key_file: str = ""
    idle_timeout_s: float = 4 * 3600.0
    creation_timeout_s: float = 30.0
    token_ttl_s: float = 60.0
    token_limit: int = 1000
    head_timeout_s: float = 10.0
    #: How long the output of an ended process is waited for, which a background child may hold open.
    drain_s: float = 10.0
    #: How long a peer that shows no sign of life is waited for when a connection ends, and how long any.
    linger_s: float = 6.0
    linger_limit_s: float = 120.0
    #: How long killing an exec'd process may take when its client has gone.
    kill_s: float = 10.0
    #: How long a half-closed forwarded connection may be silent.
    half_closed_s: float = 300.0
    #: How long running sessions may take to say goodbye when the server stops.
    stop_s: float = 5.0

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS side of the settings, None without TLS."""
        if not self.tls_cert_file and not self.tls_key_file:
            return None
        if not self.tls_cert_file or not self.tls_key_file:
            raise InvalidArgument("streaming over TLS needs a certificate file and a key file: give both or none")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        except (OSError, ssl.SSLError) as cause:
            raise InvalidArgument(
                f"the streaming server's certificate {self.tls_cert_file} with key {self.tls_key_file} "
                f"cannot be used: {cause}"
            ) from cause
        return context
