"""A table of the behaviours: passed, failed, skipped or not covered, for each engine.

pytest tests --junitxml=run.xml; python -m tests.behaviour.report run.xml [--json table.json] [--all]
"""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

IDS = Path(__file__).with_name("ids.txt")
FAILED, PASSED, DIFFERS, SKIPPED, UNCOVERED = "failed", "passed", "differs", "skipped", "not covered"
_RANK = [FAILED, PASSED, DIFFERS, SKIPPED, UNCOVERED]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test of a behaviour ended on one engine."""

    behaviour: str
    engine: str
    state: str
    test: str
    reason: str


def known_ids() -> dict[str, str]:
    """Return {id: a few words} in the order of the list."""
    lines = [line.strip() for line in IDS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def outcomes(files: Iterable[Path]) -> Iterator[Outcome]:
    """Read the outcomes of all tests that name behaviours from JUnit files; what was run again counts once."""
    found: dict[tuple[str, str, str], Outcome] = {}
    for file in sorted(files, key=lambda file: (file.stem.endswith("-again"), file.name)):
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            properties = {item.get("name"): item.get("value", "") for item in case.iter("property")}
            engine = properties.get("engine") or "none"
            for behaviour in (properties.get("behaviour") or "").split():
                state, reason = _state(case)
                test = f"{case.get('classname')}::{case.get('name')}"
                found[behaviour, engine, test] = Outcome(behaviour, engine, state, test, reason)
    return iter(found.values())


def _state(case: ElementTree.Element) -> tuple[str, str]:
    for name in ("failure", "error"):
        found = case.find(name)
        if found is not None:
            return FAILED, (found.get("message") or "").splitlines()[0] if found.get("message") else ""
    skipped = case.find("skipped")
    if skipped is None:
        return PASSED, ""
    return (DIFFERS if skipped.get("type") == "pytest.xfail" else SKIPPED), skipped.get("message") or ""


def table(found: Iterable[Outcome]) -> dict[str, dict[str, dict[str, object]]]:
    """Return {engine: {behaviour: state, counts and reasons}}; one failure makes a behaviour failed."""
    by_engine: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in found:
        by_engine[outcome.engine][outcome.behaviour].append(outcome)
    return {
        engine: {behaviour: _row(results.get(behaviour, [])) for behaviour in {**known_ids(), **results}}
        for engine, results in sorted(by_engine.items())
    }


def _row(results: list[Outcome]) -> dict[str, object]:
    counts = Counter(outcome.state for outcome in results)
    state = next((state for state in _RANK if counts[state]), UNCOVERED)
    reasons = [f"{outcome.test}: {outcome.reason}".rstrip(": ") for outcome in results if outcome.state != PASSED]
    return {"state": state, "tests": dict(counts), "reasons": sorted(set(reasons))}


def lines(rows: dict[str, dict[str, dict[str, object]]], everything: bool) -> Iterator[str]:
    """Return the table as text, an engine a column: what did not pass everywhere, or every behaviour."""
    words = known_ids()
    width = max([len(state) for state in _RANK] + [len(engine) for engine in rows]) + 2
    yield " " * width + "".join(f"{engine:<{width}}" for engine in rows)
    for state in _RANK:
        counts = [sum(row["state"] == state for row in behaviours.values()) for behaviours in rows.values()]
        if any(counts):
            yield f"{state:<{width}}" + "".join(f"{count:<{width}}" for count in counts)
    for behaviour in dict.fromkeys(name for behaviours in rows.values() for name in behaviours):
        cells = [behaviours.get(behaviour, _row([])) for behaviours in rows.values()]
        if everything or any(cell["state"] != PASSED for cell in cells):
            states = "".join(f"{cell['state']:<{width}}" for cell in cells)
            yield f"{behaviour:<{width}}{states}{words.get(behaviour, '(not in the list)')}"
            yield from _reasons(cells)


def _reasons(cells: Iterable[dict[str, object]]) -> Iterator[str]:
    reasons: dict[str, None] = {}
    for cell in cells:
        found = cell["reasons"]
        if isinstance(found, list) and cell["state"] != PASSED:
            reasons |= dict.fromkeys(found[:3])
    yield from (f"    {reason[:160]}" for reason in reasons)


def main() -> int:
    """Print the table of some JUnit files; fail when a behaviour failed or is not in the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit", nargs="+", type=Path, help="what pytest --junitxml wrote")
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument("--all", action="store_true", help="show what passed too")
    arguments = parser.parse_args()
    rows = table(outcomes(arguments.junit))
    print("\n".join(lines(rows, arguments.all)))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1, sort_keys=True))
    words = known_ids()
    unknown = {behaviour for behaviours in rows.values() for behaviour in behaviours if behaviour not in words}
    failed = any(row["state"] == FAILED for behaviours in rows.values() for row in behaviours.values())
    return 1 if failed or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
