"""A node's own seccomp profile: checked, and brought to the form of OCI.

Docker's form of the same, with `archMap`, `includes` and `excludes`, is understood too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cri_dockerd_py.backends.containerd.oci.facts import HostFacts
from cri_dockerd_py.backends.containerd.oci.seccomp_table import INSTRUCTION_SETS
from cri_dockerd_py.errors import InvalidArgument

_ACTIONS = frozenset(
    f"SCMP_ACT_{name}"
    for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_PLAIN = ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")
_NUMBERS = ("index", "value", "valueTwo")
_KERNEL = re.compile(r"(\d+)\.(\d+)")


def checked_profile(
    document: Mapping[str, object], path: str, facts: HostFacts, bounding: Collection[str]
) -> dict[str, Any]:
    """Return `linux.seccomp`; InvalidArgument says what is wrong with the profile at `path` (SCC-05)."""
    try:
        return _profile(document, facts, bounding)
    except _BadProfileError as error:
        raise InvalidArgument(f"seccomp profile {path}: {error}") from None


class _BadProfileError(Exception):
    """What is wrong."""


def _profile(document: Mapping[str, object], facts: HostFacts, bounding: Collection[str]) -> dict[str, Any]:
    rules = _list(document.get("syscalls"), "syscalls")
    filter_: dict[str, Any] = {key: document[key] for key in _PLAIN if document.get(key)}
    filter_["defaultAction"] = _one_of(document.get("defaultAction"), _ACTIONS, "defaultAction")
    if architectures := _architectures(document, facts):
        filter_["architectures"] = architectures
    filter_["syscalls"] = [_rule(rule) for rule in rules if _applies(rule, facts, bounding)]
    return filter_


def _architectures(document: Mapping[str, object], facts: HostFacts) -> list[str]:
    if document.get("archMap") is None:
        return _texts(document.get("architectures"), "architectures")
    own = INSTRUCTION_SETS.get(facts.architecture, ())
    for entry in _list(document["archMap"], "archMap"):
        if not isinstance(entry, dict):
            raise _BadProfileError("archMap has an entry that is no object")
        native = entry.get("architecture")
        if native in own:
            return [str(native), *_texts(entry.get("subArchitectures"), "subArchitectures")]
    return []


def _rule(rule: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "names": _texts(rule.get("names"), "names") or _texts([rule.get("name")], "name"),
        "action": _one_of(rule.get("action"), _ACTIONS, "action"),
    }
    if rule.get("errnoRet") is not None:
        fields["errnoRet"] = _number(rule["errnoRet"], "errnoRet")
    if arguments := _list(rule.get("args"), "args"):
        fields["args"] = [_argument(argument) for argument in arguments]
    return fields


def _argument(argument: Any) -> dict[str, Any]:
    if not isinstance(argument, dict):
        raise _BadProfileError("args has an entry that is no object")
    fields = {key: _number(argument[key], key) for key in _NUMBERS if argument.get(key) is not None}
    return {**fields, "op": _one_of(argument.get("op"), _OPERATORS, "op")}


def _applies(rule: Any, facts: HostFacts, bounding: Collection[str]) -> bool:
    """Whether the conditions of Docker's form hold: all of `includes`, and none of `excludes`."""
    if not isinstance(rule, dict):
        raise _BadProfileError("syscalls has an entry that is no object")
    includes, excludes = (rule.get(key) or {} for key in ("includes", "excludes"))
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise _BadProfileError("includes and excludes are objects")
    return all(_conditions(includes, facts, bounding)) and not any(_conditions(excludes, facts, bounding))


def _conditions(conditions: Mapping[str, Any], facts: HostFacts, bounding: Collection[str]) -> Iterator[bool]:
    for capability in _texts(conditions.get("caps"), "caps"):
        yield capability in bounding
    if architectures := _texts(conditions.get("arches"), "arches"):
        yield facts.architecture in architectures
    if kernel := conditions.get("minKernel"):
        yield facts.kernel >= _kernel(kernel)


def _kernel(text: object) -> tuple[int, int]:
    match = _KERNEL.match(text) if isinstance(text, str) else None
    if match is None:
        raise _BadProfileError("minKernel is no version such as 4.8")
    return int(match[1]), int(match[2])


def _list(value: object, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _BadProfileError(f"{name} is no list")
    return value


def _texts(value: object, name: str) -> list[str]:
    texts = _list(value, name)
    if not all(isinstance(text, str) and text for text in texts):
        raise _BadProfileError(f"{name} has an entry that is no text")
    return texts


def _number(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise _BadProfileError(f"{name} is no number from 0 to 2^64-1")
    return value


def _one_of(value: object, known: Collection[str], name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise _BadProfileError(f"{name} {str(value)[:80]!r} is unknown")
    return value
