"""The program's command line as manual pages and completions tell it: verbs, their flags, and what those take."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cri_dockerd_py.cli.main import command_parser
from cri_dockerd_py.cli.setting_flags import PROGRAM
from cri_dockerd_py.settings import model, values
from cri_dockerd_py.settings.model import Settings

__all__ = ["PROGRAM", "Value", "Verb", "verbs"]
_SETTING = "setting:"
_PATHS = (values.AbsolutePath, values.AbsolutePaths, values.OptionalPath)


@dataclass(frozen=True, slots=True)
class Value:
    """What a flag or an operand takes: one of some words, a path, or any text."""

    words: tuple[str, ...] = ()
    is_path: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, with its action where it has actions; `first_help` is of the verb without the action."""

    words: tuple[str, ...]
    parser: argparse.ArgumentParser
    help: str
    first_help: str

    @property
    def flags(self) -> list[argparse.Action]:
        """Flags and operands that are not settings."""
        return [a for a in self.parser._actions if not a.dest.startswith(_SETTING) and a.dest != "help"]

    @property
    def takes_settings(self) -> bool:
        """Whether it has all settings as flags."""
        return sum(a.dest.startswith(_SETTING) for a in self.parser._actions) == len(fields(Settings))

    @property
    def long_flags(self) -> dict[str, argparse.Action]:
        """All flags by their long names."""
        return {name: a for a in self.parser._actions for name in a.option_strings if name.startswith("--")}

    @property
    def operand(self) -> Value | None:
        """What it takes beside flags."""
        return next((value_of(a) for a in self.parser._actions if not a.option_strings), None)


def verbs() -> Iterator[Verb]:
    """Yield every verb and action with its flags."""
    for name, text in _choices(command_parser([])):
        parser = _child(command_parser([name]), name)
        actions = _choices(parser)
        if not actions:
            yield Verb((name,), parser, text, text)
        for action, action_text in actions:
            yield Verb((name, action), _child(parser, action), action_text, text)


def value_of(action: argparse.Action) -> Value | None:
    """Return what a flag or an operand takes, None for a flag that is alone."""
    if action.nargs == 0:
        return None
    if action.dest.startswith(_SETTING):
        return _setting_value(action.dest.removeprefix(_SETTING))
    if action.dest == "level":
        return _setting_value("log_level")
    is_path = action.type is Path or "file" in (action.dest, str(action.metavar).lower())
    return Value(tuple(word for word in action.choices or () if word), is_path)


def _setting_value(name: str) -> Value:
    hint: Any = get_type_hints(Settings, {**vars(model), **vars(values)}, include_extras=True)[name]
    if hint in _PATHS:
        return Value(is_path=True)
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if bare is bool:
        return Value(("true", "false"))
    return Value(get_args(bare) if get_origin(bare) is Literal else ())


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction | None:
    return next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)


def _choices(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    group = _subparsers(parser)
    return [(choice.dest, choice.help or "") for choice in group._choices_actions] if group else []


def _child(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    group = _subparsers(parser)
    assert group is not None
    return group.choices[name]
