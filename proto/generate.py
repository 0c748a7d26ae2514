#!/usr/bin/env python3
"""Generate cri_dockerd_py/_generated from proto/; with --check, only say whether it is current."""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stub_types import stub_types

PROTO_ROOT = Path(__file__).resolve().parent
GENERATED_ROOT = PROTO_ROOT.parent / "cri_dockerd_py" / "_generated"
IMPORT_PREFIX = "cri_dockerd_py/_generated"
# package in _generated → folder of its .proto files
SOURCES = {"runtime_v1": "runtime/v1", "containerd_v1": "containerd", "admin_v1": "admin/v1"}
# packages whose services we call, so that the stubs' types are of use
CALLED = ("containerd_v1", "admin_v1")


def generate(destination: Path) -> list[Path]:
    """Write the generated modules under `destination` and return their paths, relative to it."""
    from grpc_tools import protoc

    well_known = Path(protoc.__file__).parent / "_proto"
    for package, folder in SOURCES.items():
        # The virtual folder makes protoc write imports that are good inside our package.
        virtual = f"{IMPORT_PREFIX}/{package}"
        described = destination / f"{package}.binpb"
        files = [f"{virtual}/{source.name}" for source in sorted((PROTO_ROOT / folder).glob("*.proto"))]
        arguments = ["protoc", f"-I{virtual}={PROTO_ROOT / folder}", f"-I{well_known}"]
        arguments += [f"--{kind}_out={destination}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main([*arguments, f"--descriptor_set_out={described}", *files]) != 0:
            raise SystemExit(f"protoc failed on proto/{folder}; see its messages above")
        (destination / virtual / "__init__.py").write_text("")
        for file in descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()).file:
            stubs = destination / file.name.replace(".proto", "_pb2_grpc.py")
            if not file.service:
                stubs.unlink()
            elif package in CALLED:
                stubs.with_suffix(".pyi").write_text(stub_types(file))
    return sorted(path.relative_to(destination) for path in destination.rglob("*.py*"))


def stale(destination: Path, generated: list[Path]) -> list[str]:
    """Return the names of checked-in modules that differ from the generated ones."""
    repository = PROTO_ROOT.parent
    return [
        str(path)
        for path in generated
        if not (repository / path).exists() or not filecmp.cmp(destination / path, repository / path, shallow=False)
    ]


def main() -> int:
    """Generate, and install or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is stale")
    check_only = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        destination = Path(scratch)
        changed = stale(destination, generate(destination))
        if not check_only:
            for name in changed:
                target = PROTO_ROOT.parent / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((destination / name).read_bytes())
    for name in changed:
        print(f"{'stale' if check_only else 'wrote'}: {name}")
    return 1 if check_only and changed else 0


if __name__ == "__main__":
    sys.exit(main())
