"""CDI's spec files, in JSON and YAML. Blocking; use a thread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.cdi.edits import CdiEdits
from cri_dockerd_py.backends.cdi.parse import parse_edits
from cri_dockerd_py.errors import InvalidArgument

#: Later directories win, as CDI has it.
SPEC_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_LIMIT_BYTES = 4 << 20
_YAML = (".yaml", ".yml")


def resolve_cdi(names: Sequence[str], directories: Sequence[Path] = SPEC_DIRECTORIES) -> CdiEdits:
    """Return what the specs say of the devices, or raise InvalidArgument for one that is in none."""
    specs = read_specs(directories)
    documents: list[Mapping[str, Any]] = []
    for name in names:
        documents += [document for document in edits_of(name, specs, directories) if document not in documents]
    return parse_edits(documents)


def read_specs(directories: Sequence[Path]) -> list[Mapping[str, Any]]:
    """Return all specs, those that win last."""
    return [spec for path in _files(directories) if isinstance(spec := _read(path), dict)]


def edits_of(
    name: str, specs: Sequence[Mapping[str, Any]], directories: Sequence[Path] = SPEC_DIRECTORIES
) -> list[Mapping[str, Any]]:
    """Return the edits of a device as they are in its spec: the spec's own, and the device's."""
    kind, _, device_name = name.partition("=")
    for spec in reversed(specs):
        for device in _objects(spec.get("devices")) if spec.get("kind") == kind else ():
            if device.get("name") == device_name:
                return [*_objects([spec.get("containerEdits")]), *_objects([device.get("containerEdits")])]
    raise InvalidArgument(f"CDI device {name!r} is in no file of {', '.join(map(str, directories))}")


def _files(directories: Sequence[Path]) -> Iterator[Path]:
    for directory in directories:
        if directory.is_dir():
            yield from sorted(path for path in directory.iterdir() if path.suffix in (".json", *_YAML))


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
        if len(content) > _LIMIT_BYTES:
            raise ValueError(f"it is larger than {_LIMIT_BYTES} bytes")
        return _yaml(content) if path.suffix in _YAML else json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"CDI spec {path} cannot be read: {error}") from error


def _yaml(content: bytes) -> Any:
    import yaml  # few nodes have such files, and the others need not hold the parser in memory

    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _objects(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
