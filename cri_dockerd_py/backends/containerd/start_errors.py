"""What goes wrong when a process is started is the OCI runtime's word, whatever class containerd gave it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cri_dockerd_py.errors import CriError, Unavailable, Unknown


@contextmanager
def start_errors() -> Iterator[None]:
    """Raise Unknown with the runtime's text in full; only a containerd that is away stays Unavailable."""
    try:
        yield
    except (Unavailable, Unknown):
        raise
    except CriError as error:
        raise Unknown(str(error)) from error
