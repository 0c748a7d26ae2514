"""Verbs and their flags."""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from cri_dockerd_py import __version__
from cri_dockerd_py.cli import doctor, exits, handover, migrate, setting_flags, status
from cri_dockerd_py.cli.setting_flags import PROGRAM
from cri_dockerd_py.errors import CriError, InvalidArgument

_VERSION_FLAGS = ("--version", "--buildinfo")
_HELP_FLAGS = ("-h", "--help")


def main(argv: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    words = list(argv)
    if words and words[0] in _VERSION_FLAGS:
        words = ["version"]
    elif words and words[0].startswith("-") and words[0] not in _HELP_FLAGS:
        # cri-dockerd has no verbs: its unit files start with a flag.
        words.insert(0, "serve")
    _complete_streams()
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except CriError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return exits.USAGE if isinstance(error, InvalidArgument) else exits.FAILURE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except UnicodeEncodeError as error:
        print(f"{PROGRAM}: {error.object!r} is no text in UTF-8", file=sys.stderr)
        return exits.USAGE
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if words[:1] == ["serve"] and not gone:
            raise
        # Whoever reads our output has gone, or its disk is full; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not gone:
            print(f"{PROGRAM}: {error}", file=sys.stderr)
        return exits.FAILURE


def _run(words: Sequence[str]) -> int:
    try:
        arguments = command_parser(words).parse_args(words)
    except SystemExit as ended:  # after help, or with what is wrong with the words
        return int(ended.code or 0)
    return int(arguments.run(arguments))


def _complete_streams() -> None:
    """Have all three streams, closed or not, and let none of them fail on what its encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (stays open)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def command_parser(words: Sequence[str]) -> argparse.ArgumentParser:
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
    looks = config.add_subparsers(required=True, metavar="ACTION")
    show = looks.add_parser(
        "show", help="print the effective settings as TOML, with where each comes from", **flags_only
    )
    shown = show.add_mutually_exclusive_group()
    shown.add_argument("--defaults", action="store_true", help="print the commented default config file instead")
    shown.add_argument("--json", action="store_true", help="print JSON instead")
    show.set_defaults(run=_config_show)
    check = looks.add_parser("check", help="say whether serve could use the settings; fail when not", **flags_only)
    check.set_defaults(run=_config_check)
    demo = verbs.add_parser("demo", help="run a pod through the CRI socket, step by step, and remove it", **flags_only)
    demo.add_argument("--keep", action="store_true", help="leave the pod running")
    demo.set_defaults(run=_demo)
    verb = words[0] if words else ""
    status.add_verbs(verbs, verb)
    migrate.add_verbs(verbs, verb)
    handover.add_verbs(verbs, verb)
    doctor.add_verbs(verbs, verb)
    verbs.add_parser("version", help="print the version").set_defaults(run=_version)
    for chosen in {"serve": (serve,), "config": (show, check), "demo": (demo,)}.get(verb, ()):
        setting_flags.add_setting_flags(chosen)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    # What is made until the service is ready stays, so the collector would look at all of it again and again in vain.
    gc.disable()
    from cri_dockerd_py.settings.apart import SettingsApart

    loading = SettingsApart(setting_flags.given_settings(arguments), arguments.config)
    from cri_dockerd_py import daemon

    return daemon.serve(setting_flags.warned(loading.result()).settings)


def _config_show(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.settings import document

    if arguments.defaults:
        print(document.default_document(), end="")
        return 0
    loaded = setting_flags.load(arguments)
    if arguments.json:
        print(json.dumps(loaded.settings.plain(), indent=2))
    else:
        print(document.effective_document(loaded), end="")
    return 0


def _config_check(arguments: argparse.Namespace) -> int:
    setting_flags.load(arguments)
    print("the settings can be used")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    settings = setting_flags.load(arguments).settings
    from cri_dockerd_py import demo

    return demo.run(settings, keep=arguments.keep)


def _version(arguments: argparse.Namespace) -> int:
    print(f"{PROGRAM} {__version__} (Python {sys.version.split()[0]})")
    return 0
