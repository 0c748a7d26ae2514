"""What the API server knows of pods and CRI does not say: `kubectl get pods -o json`, read; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.errors import InvalidArgument

_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_TERMINAL = ("Succeeded", "Failed")
_POLICIES = ("Always", "OnFailure", "Never")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod; `restart_policy` is the API's word."""

    uid: str
    restart_policy: str
    owner_kind: str = ""
    deleted: bool = False
    terminal: bool = False


def read_pod_facts(text: str) -> dict[str, PodFacts]:
    """Return the facts by the uid that kubelet gives to the engine, or raise InvalidArgument."""
    try:
        items = json.loads(text)["items"]
        facts = [_facts(item) for item in items]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidArgument(
            f"the pods' description cannot be read ({type(error).__name__}: {error}): give what "
            "`kubectl get pods -A --field-selector spec.nodeName=<node> -o json` prints"
        ) from error
    return {fact.uid: fact for fact in facts}


def _facts(item: Mapping[str, Any]) -> PodFacts:
    metadata = item["metadata"]
    owners = metadata.get("ownerReferences") or [{}]
    restart_policy = item["spec"].get("restartPolicy", "Always")
    if restart_policy not in _POLICIES:
        raise ValueError(f"{restart_policy!r} is no restart policy")
    return PodFacts(
        # A static pod is known to the engine by the hash of its manifest, which its mirror carries.
        uid=(metadata.get("annotations") or {}).get(_MIRROR_ANNOTATION) or metadata["uid"],
        restart_policy=restart_policy,
        owner_kind=str(owners[0].get("kind", "")),
        deleted="deletionTimestamp" in metadata,
        terminal=(item.get("status") or {}).get("phase") in _TERMINAL,
    )
