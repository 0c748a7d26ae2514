"""Names of CDI devices, such as `vendor.com/class=device`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cri_dockerd_py.errors import InvalidArgument

_ANNOTATION = "cdi.k8s.io/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*=[A-Za-z0-9][A-Za-z0-9._:-]*")


def cdi_names(devices: Sequence[str], annotations: Mapping[str, str]) -> list[str]:
    """Return the names from the field and from the older annotations, each once."""
    named = list(devices)
    for key in sorted(annotations):
        if key.startswith(_ANNOTATION):
            named += [name.strip() for name in annotations[key].split(",") if name.strip()]
    for name in named:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name[:200]!r} is not the name of a CDI device, such as vendor.com/class=device")
    return list(dict.fromkeys(named))
