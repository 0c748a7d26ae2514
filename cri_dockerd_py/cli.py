"""The command line: argv → settings → one verb. Imports what a verb needs when it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cri_dockerd_py import __version__
from cri_dockerd_py.errors import CriError, InvalidArgument

if TYPE_CHECKING:
    from cri_dockerd_py.settings import LoadedSettings

PROGRAM = "cri-dockerd-py"
EXIT_FAILURE = 1
EXIT_USAGE = 2
_VERSION_FLAGS = ("--version", "--buildinfo")
_HELP_FLAGS = ("-h", "--help")
_SETTING = "setting:"


def main(argv: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    words = list(argv)
    if words and words[0] in _VERSION_FLAGS:
        words = ["version"]
    elif words and words[0].startswith("-") and words[0] not in _HELP_FLAGS:
        # cri-dockerd has no verbs: its unit files start with a flag.
        words.insert(0, "serve")
    parser = _parser(words[0] if words else "")
    arguments = parser.parse_args(words)
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except CriError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, InvalidArgument) else EXIT_FAILURE
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser; only the chosen verb gets its flags, since they cost the import of the settings."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A Kubernetes CRI server for Docker Engine and containerd.",
        epilog="Without a verb, flags are those of serve: an ExecStart of cri-dockerd needs no other change.",
    )
    flags_only: dict[str, Any] = {"allow_abbrev": False, "usage": "%(prog)s [OPTIONS] [--SETTING=VALUE …]"}
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="serve CRI until stopped", **flags_only)
    serve.set_defaults(run=_serve)
    config = verbs.add_parser("config", help="look at the settings")
    show = config.add_subparsers(required=True, metavar="ACTION").add_parser(
        "show", help="print the effective settings as TOML, with where each comes from", **flags_only
    )
    shown = show.add_mutually_exclusive_group()
    shown.add_argument("--defaults", action="store_true", help="print the commented default config file instead")
    shown.add_argument("--json", action="store_true", help="print JSON instead")
    show.set_defaults(run=_config_show)
    demo = verbs.add_parser("demo", help="run a pod through the CRI socket, step by step, and remove it", **flags_only)
    demo.add_argument("--keep", action="store_true", help="leave the pod running")
    demo.set_defaults(run=_demo)
    verbs.add_parser("version", help="print the version").set_defaults(run=_version)
    chosen = {"serve": serve, "config": show, "demo": demo}.get(verb)
    if chosen is not None:
        _add_setting_flags(chosen)
    return parser


def _add_setting_flags(parser: argparse.ArgumentParser) -> None:
    from cri_dockerd_py.settings.document import toml_value
    from cri_dockerd_py.settings.model import Settings

    parser.add_argument("--config", type=Path, metavar="FILE", help="the config file (/etc/cri-dockerd-py/config.toml)")
    group = parser.add_argument_group(
        "settings", "Each can also be set in the config file, or as CRI_DOCKERD_PY_… in the environment."
    )
    for field in fields(Settings):
        default = toml_value(field.default).strip('"')
        extra = {"nargs": "?", "const": "true"} if isinstance(field.default, bool) else {}
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=f"{_SETTING}{field.name}",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.metadata['description']} (default: {default or 'empty'})".replace("%", "%%"),
            **extra,  # type: ignore[arg-type]
        )


def _load(arguments: argparse.Namespace) -> LoadedSettings:
    from cri_dockerd_py.settings.load import load_settings

    return _warned(load_settings(_setting_flags(arguments), arguments.config))


def _setting_flags(arguments: argparse.Namespace) -> dict[str, str]:
    return {name.removeprefix(_SETTING): text for name, text in vars(arguments).items() if name.startswith(_SETTING)}


def _warned(loaded: LoadedSettings) -> LoadedSettings:
    for warning in loaded.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    return loaded


def _serve(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.settings.apart import SettingsApart

    loading = SettingsApart(_setting_flags(arguments), arguments.config)
    from cri_dockerd_py import daemon

    return daemon.serve(_warned(loading.result()).settings)


def _config_show(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.settings import document

    if arguments.defaults:
        print(document.default_document(), end="")
        return 0
    loaded = _load(arguments)
    if arguments.json:
        print(json.dumps(loaded.settings.plain(), indent=2))
    else:
        print(document.effective_document(loaded), end="")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    settings = _load(arguments).settings
    from cri_dockerd_py import demo

    return demo.run(settings, keep=arguments.keep)


def _version(arguments: argparse.Namespace) -> int:
    print(f"{PROGRAM} {__version__} (Python {sys.version.split()[0]})")
    return 0
