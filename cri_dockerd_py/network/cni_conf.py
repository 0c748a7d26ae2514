"""CNI network configurations as values: parsing, version choice, and the text that each plugin is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.json_text import JsonError

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
OLDEST_VERSION = VERSIONS[0]
LOOPBACK_NETWORK = "cni-loopback"
MAX_PLUGINS = 64
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,127}")
_PLUGIN_TYPE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.+\-]{0,127}")


class ConfError(ValueError):
    """The text is not a usable network configuration; the message says why."""


@dataclass(frozen=True, slots=True)
class PluginConf:
    """One plugin of the list: its own object as written, and the capabilities that it asks for."""

    type: str
    fields: Mapping[str, Any]
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class NetworkConf:
    """A list of plugins under one name. `raw` is the list as text, for the result cache."""

    name: str
    versions: tuple[str, ...]
    plugins: tuple[PluginConf, ...]
    raw: bytes
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def capabilities(self) -> frozenset[str]:
        """What any plugin of the list asks for."""
        return frozenset().union(*(plugin.capabilities for plugin in self.plugins))


def is_name(text: str) -> bool:
    """Whether CNI allows `text` for a network or a container id."""
    return _NAME.fullmatch(text) is not None


def is_interface_name(text: str) -> bool:
    """Whether the kernel allows `text` for an interface."""
    return 0 < len(text.encode()) <= 15 and text not in {".", ".."} and not re.search(r"[/:\s\0]", text)


def is_plugin_type(text: str) -> bool:
    """Whether `text` names a program in a directory and nothing else."""
    return _PLUGIN_TYPE.fullmatch(text) is not None


def at_least(version: str, minimum: str) -> bool:
    """Compare two versions of the specification."""
    return VERSIONS.index(version) >= VERSIONS.index(minimum)


def parse_conf_list(text: bytes) -> NetworkConf:
    """Parse a .conflist."""
    try:
        return _build(json_text.load_object(text, "network list"), text)
    except JsonError as error:
        raise ConfError(str(error)) from error


def parse_conf(text: bytes) -> NetworkConf:
    """Parse a .conf or .json: one plugin, made a list of one."""
    try:
        plugin = json_text.load_object(text, "network configuration")
        if "plugins" in plugin and "type" not in plugin:
            raise ConfError("this is a list of plugins: name the file .conflist")
        wrapped: dict[str, Any] = {key: plugin[key] for key in ("name", "cniVersion", "cniVersions") if key in plugin}
        wrapped["plugins"] = [plugin]
        return _build(wrapped, json_text.dump(wrapped))
    except JsonError as error:
        raise ConfError(str(error)) from error


def choose_version(conf: NetworkConf, supported: Iterable[frozenset[str]]) -> str:
    """Return the newest version that the configuration allows and every plugin supports."""
    common = frozenset(conf.versions).intersection(*supported)
    if not common:
        asked = ", ".join(conf.versions)
        raise ConfError(f"its plugins do not all support cniVersion {asked}: install newer plugins or lower cniVersion")
    return max(common, key=VERSIONS.index)


def plugin_stdin(
    conf: NetworkConf,
    plugin: PluginConf,
    version: str,
    *,
    prev_result: Mapping[str, Any] | None = None,
    capability_args: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Derive the text for one plugin's stdin: its object, the list's name and version, and what the call adds."""
    fields = {**plugin.fields, "name": conf.name, "cniVersion": version}
    if prev_result is not None:
        fields["prevResult"] = prev_result
    runtime_config = {key: value for key, value in (capability_args or {}).items() if key in plugin.capabilities}
    if runtime_config:
        fields["runtimeConfig"] = runtime_config
    return json_text.dump({**fields, **(extra or {})})


def _build(fields: Mapping[str, Any], raw: bytes) -> NetworkConf:
    name = json_text.string(fields, "name", "the configuration")
    if not is_name(name):
        raise ConfError(f"name {name[:80]!r} is not a network name: use letters, digits, '_', '.', '-'")
    plugins = json_text.objects(fields, "plugins", "the configuration")
    if not plugins:
        raise ConfError("it has no plugins")
    if len(plugins) > MAX_PLUGINS:
        raise ConfError(f"it has {len(plugins)} plugins, more than {MAX_PLUGINS}")
    return NetworkConf(
        name=name,
        versions=_versions(fields),
        plugins=tuple(_plugin(plugin) for plugin in plugins),
        raw=raw,
        disable_check=json_text.flag(fields, "disableCheck", "the configuration"),
        disable_gc=json_text.flag(fields, "disableGC", "the configuration"),
    )


def _plugin(fields: dict[str, Any]) -> PluginConf:
    kind = json_text.string(fields, "type", "a plugin")
    if not is_plugin_type(kind):
        raise ConfError(f"plugin type {kind[:80]!r} is not the name of a program")
    declared = json_text.mapping(fields, "capabilities", f"plugin {kind}")
    return PluginConf(kind, fields, frozenset(key for key, value in declared.items() if value is True))


def _versions(fields: Mapping[str, Any]) -> tuple[str, ...]:
    listed = fields.get("cniVersions") or []
    if not isinstance(listed, list) or not all(isinstance(version, str) for version in listed):
        raise ConfError("cniVersions is not a list of strings")
    single = json_text.string(fields, "cniVersion", "the configuration")
    asked = {*listed, single} - {""} or {OLDEST_VERSION}
    known = tuple(version for version in VERSIONS if version in asked)
    if not known:
        raise ConfError(
            f"cniVersion {', '.join(sorted(asked))[:80]!r} is unknown: use {OLDEST_VERSION} to {VERSIONS[-1]}"
        )
    return known
