"""How single values are written in files, variables and flags: durations, addresses, lists, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from cri_dockerd_py.settings.runtimes import ContainerdRuntime, runtime_tables

MAX_SOCKET_PATH_BYTES = 107
# cri-dockerd's names for levels that we do not tell apart
_LEVEL_ALIASES = {"panic": "error", "fatal": "error", "warn": "warning", "trace": "debug"}
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_PORT = re.compile(r"[0-9]{1,5}")


def parse_duration(value: object) -> float:
    """Return the seconds of a duration like 1m30s; a bare number counts seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("expected a duration like 1m30s or a number of seconds")
    if isinstance(value, int | float):
        return float(value)
    text = value.strip()
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text[1:] if text[:1] in ("-", "+") else text
    if re.fullmatch(r"\d+(\.\d*)?", digits):
        return sign * float(digits)
    parts = list(_DURATION_PART.finditer(digits))
    if not parts or "".join(part[0] for part in parts) != digits:
        raise ValueError("expected a duration like 1m30s, 500ms or 2h (units: ns, us, ms, s, m, h)")
    return sign * sum(float(part[1]) * _UNIT_SECONDS[part[2]] for part in parts)


def split_commas(value: object) -> tuple[object, ...]:
    """Return the items of a list, or of a text with commas between them, without empty ones."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    if not isinstance(value, Sequence):
        raise ValueError("expected a list, or one text with commas between the items")
    return tuple(value)


def check_listen_endpoint(value: str) -> str:
    """Return a listen endpoint in its full form: fd:// (socket activation) or unix:///path."""
    if value == "fd://":
        return value
    if value.startswith("fd://"):
        raise ValueError("named descriptors are not supported; write fd:// for the first socket that systemd passes")
    return check_unix_endpoint(value)


def check_unix_endpoint(value: str) -> str:
    """Return a unix endpoint in its full form; a bare absolute path is taken as one."""
    scheme, separator, rest = value.partition("://")
    path = rest if separator else value
    if (separator and scheme != "unix") or not path.startswith("/"):
        raise ValueError("expected unix:// and an absolute path, like unix:///run/name.sock")
    if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"a socket's path can have {MAX_SOCKET_PATH_BYTES} bytes; this one has {len(path.encode())}")
    return f"unix://{path}"


def check_unix_endpoint_or_empty(value: str) -> str:
    """Return a unix endpoint in its full form, or the empty text for the default one."""
    return check_unix_endpoint(value) if value else value


def default_docker_endpoint(value: object) -> object:
    """Return the endpoint to use for an empty one, which means Docker's own variable or its usual socket."""
    return (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock") if value == "" else value


def check_bind_address(value: str) -> str:
    """Return "host:port"; a missing port means any, brackets are for IPv6."""
    if not value:
        return value
    host, port = value, "0"
    if value.startswith("["):
        host, bracket, rest = value.partition("]")
        host, port = host + bracket, rest.removeprefix(":") or "0"
    elif value.count(":") == 1:
        host, port = value.split(":")
    if host.isdecimal():
        raise ValueError(f"expected host:port; a port on all addresses is written :{host}")
    if not _PORT.fullmatch(port) or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("expected host:port like 127.0.0.1:0 or [::1]:10010 (port 0 is any free one)")
    return f"{host}:{port}"


def check_metrics_address(value: str) -> str:
    """Return "host:port": whoever scrapes has to know the port, so it must be there."""
    full = check_bind_address(value)
    if full != value:
        raise ValueError("expected host:port with a port, like 127.0.0.1:9580, or :9580 for all addresses")
    return full


def check_tracing_endpoint(value: str) -> str:
    """Return host:port, with http:// or https:// before it where given."""
    scheme, separator, rest = value.partition("://")
    host, _, port = (rest if separator else value).rpartition(":")
    known = not separator or scheme in ("http", "https")
    address = bool(host) and not set(host) & set("/@ ") and _PORT.fullmatch(port) and 0 < int(port) <= 65535
    if value and not (known and address and (":" not in host or host.startswith("["))):
        raise ValueError("expected host:port like 127.0.0.1:4317, with http:// or https:// before it where wanted")
    return value


def check_absolute(path: Path) -> Path:
    """Return a path that does not depend on the working directory."""
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


def check_absolute_or_empty(text: str) -> str:
    """Return an absolute path, or the empty text for none."""
    if text:
        check_absolute(Path(text))
    return text


def parse_level(value: object) -> object:
    """Return a log level in lower case, under the name that we have for it."""
    text = value.lower() if isinstance(value, str) else value
    return _LEVEL_ALIASES.get(text, text) if isinstance(text, str) else text


def parse_network_plugin(value: object) -> object:
    """Return the plugin to use for an empty one."""
    return "cni" if value == "" else value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]
AbsolutePath = Annotated[Path, AfterValidator(check_absolute)]
OptionalPath = Annotated[str, AfterValidator(check_absolute_or_empty)]
AbsolutePaths = Annotated[tuple[AbsolutePath, ...], NoDecode, BeforeValidator(split_commas)]
ListenEndpoint = Annotated[str, AfterValidator(check_listen_endpoint)]
AdminEndpoint = Annotated[str, AfterValidator(check_unix_endpoint_or_empty)]
UnixEndpoint = Annotated[str, AfterValidator(check_unix_endpoint)]
DockerEndpoint = Annotated[UnixEndpoint, BeforeValidator(default_docker_endpoint)]
BindAddress = Annotated[str, AfterValidator(check_bind_address)]
MetricsAddress = Annotated[str, AfterValidator(check_metrics_address)]
ContainerdNamespace = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$", max_length=76)]
RuntimeTables = Annotated[tuple[ContainerdRuntime, ...], NoDecode, BeforeValidator(runtime_tables)]
DriverName = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]*)?$", max_length=64)]
Name = Annotated[str, Field(min_length=1)]
OptionalName = Annotated[str, Field(pattern=r"^([a-z][a-z0-9+.-]*)?$", max_length=64)]
NotNegative = Annotated[int, Field(ge=0)]
PerMillion = Annotated[int, Field(ge=0, le=1_000_000)]
TracingEndpoint = Annotated[str, AfterValidator(check_tracing_endpoint)]
LogLevel = Annotated[Literal["error", "warning", "info", "debug"], BeforeValidator(parse_level)]
NetworkPlugin = Annotated[Literal["cni"], BeforeValidator(parse_network_plugin)]
