"""The tables of docs/compatibility.md, made from a comparison; the prose around them is written by hand."""

from collections.abc import Iterable
from itertools import dropwhile

from trials.compat import notes
from trials.compat.comparison import Comparison, Row, split
from trials.compat.differences import Difference, parent_of
from trials.compat.scenario import CONTRACT
from trials.lib.places import ROOT

PAGE = ROOT / "docs" / "compatibility.md"

_COLUMNS = "only there | only here | otherwise | why"
_JOBS = ("GET /queues/:queue/jobs", "GET /jobs/:id")
"""Rows of other routes say how their jobs differ from the jobs of these: what is delivered, and what is shown."""
_ALIKE = 4
"""Fields by which a job may differ from those, so that its row names them instead of all fields."""


def tables(found: Comparison) -> list[list[str]]:
    """Return the tables of the page, each as its lines."""
    by_route = {row.route: row for row in found.rows}
    jobs = {route: _fields_of_job(by_route[route].http, "job") for route in _JOBS}
    contract = [by_route[route] for route in CONTRACT]
    others = [row for row in found.rows if row.route not in CONTRACT and " " in row.route]
    sessions = [row for row in found.rows if " " not in row.route]
    return [
        [f"| route of 2.1 | here | {_COLUMNS} |", _rule(6), *(_line(row, jobs) for row in contract)],
        [f"| route of the original | command here | {_COLUMNS} |", _rule(6), *(_line(row, jobs) for row in others)],
        [f"| command of a connection | here | {_COLUMNS} |", _rule(6), *(_line(row, jobs) for row in sessions)],
        ["| commands that are not here | what there is instead |", _rule(2), *_missing(found)],
        ["| event | only there | only here | why |", _rule(4), *_events(found)],
    ]


def _rule(columns: int) -> str:
    return "|" + " --- |" * columns


def _row(*cells: str) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _line(row: Row, jobs: dict[str, set[str]]) -> str:
    why = notes.WHY.get(row.route, "")
    if row.here is None:
        return _row(f"`{row.route}`", "no", _names(row.gives), "", "", why)
    known = {} if row.route in jobs else jobs
    parts = list(zip(("", "HTTP: ", "WebSocket: "), split(row), strict=True))
    cells = [
        "; ".join(f"{where}{text}" for where, part in parts if (text := _paths(part.only_there, known))),
        "; ".join(f"{where}{text}" for where, part in parts if (text := _paths(part.only_here, {}))),
    ]
    if row.here == "prometheus" and cells[1]:
        cells[1] = "others"
    other = "; ".join(f"{where}{text}" for where, part in parts if (text := _otherwise(part)))
    return _row(f"`{row.route}`", f"`{row.here}`", *cells, other, why)


def _fields_of_job(part: Difference, prefix: str) -> set[str]:
    """Return which fields of the job at ``prefix`` only the original gives."""
    return {path.removeprefix(f"{prefix}.") for path in part.only_there if parent_of(path) == prefix}


def _paths(paths: set[str], jobs: dict[str, set[str]]) -> str:
    """Return fields, those of one object together; those of a job as ``jobs`` have them where that is nearly so."""
    by_parent: dict[str, set[str]] = {}
    for path in paths:
        by_parent.setdefault(parent_of(path), set()).add(path[len(parent_of(path)) :].lstrip("."))
    texts = []
    for parent, names in sorted(by_parent.items()):
        text = _names(sorted(names))
        for route, fields in jobs.items():
            if len(names ^ fields) <= _ALIKE < len(fields):
                text = f"as in `{route}`" + _but(fields - names, "without") + _but(names - fields, "with")
                break
        texts.append(f"`{parent}`: {text}" if parent else text)
    return "; ".join(texts)


def _but(names: set[str], word: str) -> str:
    return f", {word} {_names(sorted(names))}" if names else ""


def _names(names: Iterable[str]) -> str:
    return ", ".join(name if " " in name else f"`{name}`" for name in names)


def _otherwise(part: Difference) -> str:
    texts = [f"`{path}`: {there} there, {here} here" for path, there, here in sorted(part.types)]
    texts += [f"`{path}`: left out {side} at times" for path, side in sorted(part.at_times)]
    by_outcome: dict[tuple[str, str], list[str]] = {}
    for title, there, here in sorted(part.outcomes):
        by_outcome.setdefault((there, here), []).append(title)
    texts += [
        f"{', '.join(titles)}: {there} there, {here} here" for (there, here), titles in sorted(by_outcome.items())
    ]
    return "; ".join(texts)


def _missing(found: Comparison) -> list[str]:
    return [_row(_names(names), why) for why, names in notes.MISSING.items() if set(names) <= set(found.missing)]


def _events(found: Comparison) -> list[str]:
    lines = []
    for kind, part in found.events.items():
        if isinstance(part, str):
            cells = ["the event", ""] if part == "there" else ["", "the event"]
        else:
            cells = [_names(sorted(part.only_there)), _names(sorted(part.only_here))]
        lines.append(_row(f"`{kind}`", *cells, notes.EVENTS.get(kind, "")))
    return lines


def written(text: str, found: Comparison) -> str:
    """Return a page with the tables of a comparison in the place of those with the same head.

    Raises:
        ValueError: it has no place for one of them.
    """
    for lines in tables(found):
        head = "\n".join(lines[:2]) + "\n"
        before, place, rest = text.partition(head)
        if not place:
            raise ValueError(f"the page has no table with the head {lines[0]}")
        after = list(dropwhile(lambda line: line.startswith("|"), rest.split("\n")))
        text = "\n".join([before + "\n".join(lines), *after])
    return text
