"""Provoke a few thousand real errors, group them, and say how well that went: `python -m trials.errors.command`.

Two texts of one fault that are in one group are right; precision is the part of the pairs in one group that are, recall the part
of the pairs of one fault. The texts are not kept: what provokes them is.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import click

from bunqueue_trio.engine.fingerprint import fingerprint
from trials.errors import in_programs, in_python, remembered


class Score(NamedTuple):
    """How well texts were grouped; ``split`` and ``mixed`` say which were not."""

    texts: int
    faults: int
    groups: int
    precision: float
    recall: float
    split: list[tuple[str, list[str]]]
    mixed: list[tuple[str, list[str]]]


def score(labelled: Iterable[tuple[str, str]]) -> Score:
    """Group texts, each with the fault that it is of, and return how well that went."""
    pairs: Counter[tuple[str, str]] = Counter()
    shapes: dict[str, str] = {}
    for fault, text in labelled:
        key, shape = fingerprint(text)
        pairs[fault, key] += 1
        shapes[key] = shape
    faults: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    for (fault, key), n in pairs.items():
        faults[fault] += n
        groups[key] += n
    right = _pairs(pairs.values())
    split = [(fault, [shapes[key] for name, key in pairs if name == fault]) for fault in faults]
    mixed = [(shapes[key], [fault for fault, name in pairs if name == key]) for key in groups]
    return Score(
        sum(pairs.values()), len(faults), len(groups),
        right / max(1, _pairs(groups.values())), right / max(1, _pairs(faults.values())),
        [one for one in split if len(one[1]) > 1], [one for one in mixed if len(one[1]) > 1],
    )  # fmt: skip


def _pairs(counts: Iterable[int]) -> int:
    return sum(n * (n - 1) // 2 for n in counts)


def provoke(times: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, text) of everything that is here."""
    return chain(in_python.provoke(times, seed), in_programs.provoke(times, seed))


@click.command()
@click.option("--times", type=click.IntRange(min=2), default=20, show_default=True, help="Of each fault.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(times: int, seed: int) -> None:
    """Provoke errors and say how well they are grouped."""
    _tell("provoked here", score(provoke(times, seed)))
    _tell("as programs write them that are not here", score(remembered.provoke(times, seed)))


def _tell(what: str, found: Score) -> None:
    for fault, shapes in found.split:
        click.echo(f"in several groups: {fault}")
        for shape in shapes:
            click.echo(f"    {shape}")
    for shape, faults in found.mixed:
        click.echo(f"of several faults: {shape}: {', '.join(faults)}")
    click.echo(
        f"{what}: "
        f"{found.texts:,} texts of {found.faults} faults in {found.groups} groups: precision {found.precision:.3f}, recall {found.recall:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
