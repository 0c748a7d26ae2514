"""An image's configuration, as far as containers depend on it (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cri_dockerd_py.errors import InvalidArgument

LIMIT_BYTES = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LAYERS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about itself; empty where it says nothing. `env` are `name=value` texts."""

    diff_ids: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    os: str = ""
    architecture: str = ""
    variant: str = ""


def parse_image_config(content: bytes) -> ImageConfig:
    """Return the configuration in an OCI or Docker config blob; InvalidArgument says what is wrong with it."""
    if len(content) > LIMIT_BYTES:
        raise InvalidArgument(f"image configuration of {len(content)} bytes; at most {LIMIT_BYTES} are read")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"image configuration is no JSON: {error}") from error
    whole = _object(document, "image configuration")
    config = _object(whole.get("config"), "config")
    return ImageConfig(
        diff_ids=_diff_ids(_object(whole.get("rootfs"), "rootfs")),
        env=_texts(config, "Env"),
        entrypoint=_texts(config, "Entrypoint"),
        cmd=_texts(config, "Cmd"),
        working_dir=_text(config, "WorkingDir"),
        user=_text(config, "User"),
        volumes=tuple(_checked(path, "Volumes") for path in sorted(_object(config.get("Volumes"), "Volumes"))),
        labels=_labels(_object(config.get("Labels"), "Labels")),
        stop_signal=_text(config, "StopSignal"),
        os=_text(whole, "os"),
        architecture=_text(whole, "architecture"),
        variant=_text(whole, "variant"),
    )


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"image configuration: {name} is no object")
    return value


def _texts(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = config.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidArgument(f"image configuration: {name} is no list")
    return tuple(_checked(item, name) for item in value)


def _text(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    return "" if value is None else _checked(value, name)


def _checked(value: Any, name: str) -> str:
    """Refuse what neither a process's arguments nor a message to the engine can hold."""
    if not isinstance(value, str):
        raise InvalidArgument(f"image configuration: {name} has a {type(value).__name__} where text belongs")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidArgument(f"image configuration: {name} has {value[:80]!r}, which is no text")
    return value


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    return {_checked(key, "Labels"): _checked(value, "Labels") for key, value in labels.items()}


def _diff_ids(rootfs: Mapping[str, Any]) -> tuple[str, ...]:
    diff_ids = _texts(rootfs, "diff_ids")
    if len(diff_ids) > _LAYERS_LIMIT:
        raise InvalidArgument(f"image configuration: {len(diff_ids)} layers; at most {_LAYERS_LIMIT} are possible")
    for diff_id in diff_ids:
        if not _DIGEST.fullmatch(diff_id):
            raise InvalidArgument(f"image configuration: diff_id {diff_id[:80]!r} is no digest")
    return diff_ids
