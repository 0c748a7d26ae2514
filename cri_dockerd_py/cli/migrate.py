"""`migrate …`: move the node's pods from one engine to the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PODS = "NAMESPACE/NAME"
_EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 it has not come about: the migration has stopped or was aborted, "
    "or something is left. Interrupting a command that follows a migration does not end the migration."
)


def add_verbs(verbs: Any, chosen: str) -> None:
    """Add the verb and its actions; flags are added when it is chosen."""
    parser = verbs.add_parser(
        "migrate", help="move the node's pods between engines under a running kubelet", epilog=_EPILOG
    )
    if chosen != "migrate":
        return
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    plan = _action(actions, "plan", "show what moves, what stays and why, and what is copied")
    images = _action(actions, "images", "copy the images that a migration needs, and move nothing")
    run = _action(actions, "run", "move pods, so many at a time, and follow it")
    for action in (plan, images, run):
        _add_plan_flags(action)
    run.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    run.add_argument("--settle", type=float, metavar="S", help="watch a moved pod for S seconds (10)")
    run.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="how long a pod may take to come back, beyond its grace period (300)",
    )
    status = _action(actions, "status", "show how the newest migration stands")
    status.add_argument("--watch", action="store_true", help="follow it until it ends")
    _action(actions, "pause", "begin no more moves; those in flight come to their end")
    resume = _action(actions, "resume", "go on after a pause or a stop, and follow it")
    _action(actions, "abort", "end the migration where it is; new pods go where they went before")
    rollback = _action(actions, "rollback", "bring back what was moved, and follow it")
    for action in (run, resume, rollback):
        action.add_argument("--detach", action="store_true", help="do not follow it")
    _add_agent(actions)
    finish = _action(actions, "finish", "let go of the engine that was left, and tell what may be uninstalled")
    finish.add_argument("--engine", default="", help="the engine to leave (the one that the newest migration left)")


def _add_agent(actions: Any) -> None:
    agent = _action(actions, "agent", "bring this node to an engine and report to Kubernetes (packaging/kubernetes)")
    agent.add_argument(
        "--to", default="", choices=("", "containerd", "docker"), help="the engine; empty changes nothing"
    )
    agent.add_argument("--max-unavailable", type=int, default=1, metavar="N", help="as of `migrate run`")
    agent.add_argument(
        "--ready-file",
        type=Path,
        default=Path("/run/cri-dockerd-py-agent/ready"),
        metavar="FILE",
        help="is there while the node's migration is complete",
    )


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    from cri_dockerd_py.cli.admin_flags import add_admin_flags

    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, epilog=_EPILOG)
    add_admin_flags(parser)
    parser.set_defaults(run=_verb(name))
    return parser


def _add_plan_flags(parser: argparse.ArgumentParser) -> None:
    pods: dict[str, Any] = {"action": "append", "default": [], "metavar": _PODS}
    parser.add_argument("--to", required=True, choices=("containerd", "docker"), help="the engine to move to")
    parser.add_argument(
        "--max-unavailable", type=int, default=1, metavar="N", help="how many pods may be on their way at once (1)"
    )
    parser.add_argument("--pod", **pods, help="move only these; * and ? stand for anything; may be repeated")
    parser.add_argument("--exclude", **pods, help="leave these where they are; may be repeated")
    parser.add_argument("--last", **pods, help="move these after all others; may be repeated")
    parser.add_argument(
        "--pods-json",
        default="",
        metavar="FILE",
        help="what `kubectl get pods -A --field-selector spec.nodeName=NODE -o json` prints, - for standard input: "
        "tells restart policies, which are not known otherwise of pods without an owner",
    )


def _verb(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from cri_dockerd_py.cli import migrate_verbs

        verb: Callable[[argparse.Namespace], int] = getattr(migrate_verbs, name)
        return verb(arguments)

    return run
