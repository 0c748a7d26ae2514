"""Pod bandwidth limits from Kubernetes' annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from cri_dockerd_py.errors import InvalidArgument

_ANNOTATIONS = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}
_MIN_BITS_PER_SECOND = 10**3
_MAX_BITS_PER_SECOND = 10**15
_BURST_BITS = 2**31 - 1
_QUANTITY = re.compile(
    r"([+-]?)([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([+-]?[0-9]{1,2})|(m|k|M|G|T|P|E|[KMGTPE]i)?)"
)
_SCALES = {"": Decimal(1), "m": Decimal("0.001")}
_SCALES |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}
_SCALES |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def parse_quantity(text: str) -> Decimal:
    """Return the value of a Kubernetes quantity such as 10M, 1.5Gi or 2e6."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"{text[:80]!r} is not a quantity: write it like 10M, 1.5Gi or 2e6")
    sign, number, exponent, unit = match.groups()
    value = Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SCALES[unit or ""])
    return -value if sign == "-" else value


def bandwidth_capability(annotations: Mapping[str, str]) -> dict[str, int]:
    """Return the `bandwidth` capability's value, empty when no limit is set."""
    limits: dict[str, int] = {}
    for direction, annotation in _ANNOTATIONS.items():
        text = annotations.get(annotation, "")
        if not text:
            continue
        bits_per_second = parse_quantity(text)
        if not _MIN_BITS_PER_SECOND <= bits_per_second <= _MAX_BITS_PER_SECOND:
            raise InvalidArgument(f"annotation {annotation}: {text!r} is not between 1k and 1P bits per second")
        limits[f"{direction}Rate"] = int(bits_per_second)
        limits[f"{direction}Burst"] = _BURST_BITS
    return limits
