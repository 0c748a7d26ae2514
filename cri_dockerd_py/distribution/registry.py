"""A client of registries that lives as long as the service; each pull has connections and logins of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cri_dockerd_py.distribution.host_files import HostFiles
from cri_dockerd_py.distribution.repository import Repository
from cri_dockerd_py.distribution.rules.answers import UNAVAILABLE
from cri_dockerd_py.distribution.rules.credentials import credentials_for
from cri_dockerd_py.distribution.stall import Stalled, StallWatch
from cri_dockerd_py.distribution.tls import TlsContexts
from cri_dockerd_py.distribution.transport import Transport
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import ImageRef


class Registry:
    """Registries as configured under `config_roots`: certs.d directories, of which the first that knows a host decides.

    Nothing needs closing.
    """

    def __init__(self, config_roots: Sequence[Path] = (), *, user_agent: str = "cri-dockerd-py") -> None:
        self._host_files = HostFiles(config_roots)
        self._contexts = TlsContexts()
        self._user_agent = user_agent

    @asynccontextmanager
    async def open(
        self, reference: ImageRef, auth: RegistryAuth | None, stall_s: float = 0.0
    ) -> AsyncIterator[Repository]:
        """Give the reference's repository for one pull; at the end every connection is closed and logins are forgotten.

        Raises Unknown when requests are open and no byte comes for `stall_s` (0: never).
        """
        hosts = await self._host_files.hosts(reference.domain)
        credentials = credentials_for(reference.domain, auth)
        transport = Transport(self._contexts, StallWatch(stall_s), self._user_agent)
        try:
            yield Repository(reference, hosts, transport, credentials)
        except Stalled:
            raise Unknown(
                f"{UNAVAILABLE}: the pull of {reference} made no progress for {stall_s:g} s and was given up; "
                f"see image_pull_progress_deadline"
            ) from None
        finally:
            await transport.close()
