"""Asking a pod over HTTP."""

from __future__ import annotations

import http.client

#: Where test pods serve.
PORT = 8080
#: Shorter than pods are watched in tests that count unanswering ones: an address that is gone may be silent.
_ANSWER_WITHIN_S = 1.0


def get(address: str, port: int = PORT) -> str | None:
    """Return what a pod answers, None when it does not."""
    connection = http.client.HTTPConnection(address, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
