"""The few calls to the Kubernetes API that reporting needs, with the rights of the pod's own service account."""

from __future__ import annotations

import datetime
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from cri_dockerd_py.errors import FailedPrecondition, Unavailable

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CALL_WITHIN_S = 30.0
_EVENTS_NAMESPACE = "default"  # where events of nodes belong
_COMPONENT = "cri-dockerd-py"
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API server is, and which node and pod this is."""

    url: str
    node: str
    pod: str
    account: Path = _ACCOUNT


def place() -> Place:
    """Return what the environment of a pod says, or raise FailedPrecondition."""
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        name = f"{os.environ['POD_NAMESPACE']}/{os.environ['POD_NAME']}"
        scheme = os.environ.get("KUBERNETES_SERVICE_SCHEME", "https")
        account = Path(os.environ.get("SERVICE_ACCOUNT_DIR", _ACCOUNT))
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        return Place(url, os.environ["NODE_NAME"], name, account)
    except KeyError as error:
        raise FailedPrecondition(
            f"{error.args[0]} is not in the environment: this is for a pod, see packaging/kubernetes/"
        ) from None


class ApiServer:
    """Reads this node's pods, annotates the node, and posts events about it."""

    def __init__(self, session: aiohttp.ClientSession, place: Place) -> None:
        self._session = session
        self._place = place

    async def pods_json(self) -> str:
        """Return this node's pods, as `kubectl get pods -o json` prints them but without what nobody reads."""
        listed = await self._call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self._place.node}")
        return json.dumps({"items": [_slim(item) for item in listed["items"]]})

    async def annotate(self, annotations: dict[str, str]) -> None:
        """Set annotations of the node."""
        body = {"metadata": {"annotations": annotations}}
        await self._call("PATCH", f"/api/v1/nodes/{self._place.node}", body, _MERGE)

    async def event(self, kind: str, reason: str, message: str) -> None:
        """Post an event about the node; `kind` is Normal or Warning."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"generateName": f"{self._place.node}.", "namespace": _EVENTS_NAMESPACE},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": self._place.node, "uid": self._place.node},
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": _COMPONENT, "host": self._place.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._call("POST", f"/api/v1/namespaces/{_EVENTS_NAMESPACE}/events", body)

    async def _call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body)
        try:
            # The token is renewed on disk while the pod runs.
            token = (self._place.account / "token").read_text().strip()
            all_headers = {"Authorization": f"Bearer {token}", **(headers or {})}
            if data is not None:
                all_headers.setdefault("Content-Type", "application/json")
            async with self._session.request(
                method, self._place.url + path, data=data, headers=all_headers
            ) as response:
                text = await response.text()
                if response.status >= 300:
                    raise Unavailable(f"{method} {path}: {response.status} {text[:300]}")
                return json.loads(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the API server cannot be reached for {method} {path}: {error}") from error
        except ValueError as error:
            raise Unavailable(f"what answers {method} {path} is no API server: {error}") from error


@asynccontextmanager
async def api_server(place: Place) -> AsyncIterator[ApiServer]:
    """Connect to the API server, whose certificate has to be the cluster's."""
    context: ssl.SSLContext | bool = True
    if place.url.startswith("https:"):
        certificate = place.account / "ca.crt"
        try:
            context = ssl.create_default_context(cafile=str(certificate))
        except OSError as error:
            raise FailedPrecondition(
                f"the cluster's certificate {certificate} cannot be used ({error.strerror}): "
                "give the pod its service account"
            ) from error
    timeout = aiohttp.ClientTimeout(total=_CALL_WITHIN_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session:
        yield ApiServer(session, place)


def _slim(item: dict[str, Any]) -> dict[str, Any]:
    metadata, status = item["metadata"], item.get("status") or {}
    kept = ("uid", "annotations", "ownerReferences", "deletionTimestamp")
    return {
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"restartPolicy": item["spec"].get("restartPolicy", "Always")},
        "status": {"phase": status.get("phase", "")},
    }
