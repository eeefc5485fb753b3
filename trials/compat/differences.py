"""Compares what two servers were answered, call by call, and tells of each route how they differ; judges nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trials.compat.shapes import Answer, Shape, union


@dataclass
class Difference:
    """How the answers to one route differ; each is a set of texts or paths, and nothing when they are the same."""

    only_there: set[str] = field(default_factory=set)
    """Fields that only the original gives."""
    only_here: set[str] = field(default_factory=set)
    types: set[tuple[str, str, str]] = field(default_factory=set)
    """Path, type there, type here."""
    at_times: set[tuple[str, str]] = field(default_factory=set)
    """Path, and on which side it is left out although the other gives it: ``there`` or ``here``."""
    outcomes: set[tuple[str, str, str]] = field(default_factory=set)
    """Title of the call, outcome there, outcome here."""

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return any(self.parts())

    def parts(
        self,
    ) -> tuple[set[str], set[str], set[tuple[str, str, str]], set[tuple[str, str]], set[tuple[str, str, str]]]:
        """Return its sets."""
        return self.only_there, self.only_here, self.types, self.at_times, self.outcomes

    def __sub__(self, other: "Difference") -> "Difference":
        """Return what is not in ``other``."""
        return Difference(*(mine - theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))  # type: ignore[operator]

    def __and__(self, other: "Difference") -> "Difference":
        """Return what is in both."""
        return Difference(*(mine & theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))  # type: ignore[operator]

    def __or__(self, other: "Difference") -> "Difference":
        """Return what is in one or the other."""
        return Difference(*(mine | theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))  # type: ignore[operator]


def compare(pairs: Iterable[tuple[str, Answer, Answer]]) -> Difference:
    """Compare the answers to the calls of one route: title, what the original said, what this server said.

    Fields are compared where both did what they were asked.
    """
    found, shapes = Difference(), []
    for title, there, here in pairs:
        if there.outcome != here.outcome:
            found.outcomes.add((title, there.outcome, here.outcome))
        if there.is_good and here.is_good:
            shapes.append((there.shape, here.shape))
    _compare_shapes(shapes, found)
    return found


def compare_shapes(there: Shape, here: Shape) -> Difference:
    """Compare two shapes."""
    found = Difference()
    _compare_shapes([(there, here)], found)
    return found


def _compare_shapes(shapes: list[tuple[Shape, Shape]], found: Difference) -> None:
    types: dict[str, tuple[str, str]] = {}
    missing_there: set[str] = set()
    missing_here: set[str] = set()
    seen_there: set[str] = set()
    seen_here: set[str] = set()
    for there, here in shapes:
        seen_there |= there.keys()
        seen_here |= here.keys()
        for path in there.keys() & here.keys():
            before = types.get(path, (there[path], here[path]))
            types[path] = union(before[0], there[path]), union(before[1], here[path])
        missing_here |= _missing(there, here)
        missing_there |= _missing(here, there)
    found.only_there |= missing_here - seen_here
    found.only_here |= missing_there - seen_there
    found.at_times |= {(path, "here") for path in missing_here & seen_here}
    found.at_times |= {(path, "there") for path in missing_there & seen_there}
    found.types |= {(path, *both) for path, both in types.items() if both[0] != both[1]}


def _missing(shape: Shape, other: Shape) -> set[str]:
    """Return what ``other`` lacks of ``shape``, but not what is inside of that; lists that are empty lack nothing."""
    return {path for path in shape.keys() - other.keys() if not path.endswith("[]") and parent_of(path) in other}


def parent_of(path: str) -> str:
    """Return the path of what a field or an item is in."""
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def never_filled(pairs: Iterable[tuple[str, Answer, Answer]]) -> set[str]:
    """Return the lists that hold something on one side only, in all calls: what is in them was not compared."""
    there: set[str] = set()
    here: set[str] = set()
    lists: set[str] = set()
    for _, one, other in pairs:
        if one.is_good and other.is_good:
            lists |= {path for path, kind in one.shape.items() if kind == "list" and other.shape.get(path) == "list"}
            there |= {path for path in one.shape if path.endswith("[]")}
            here |= {path for path in other.shape if path.endswith("[]")}
    return {path for path in lists if (f"{path}[]" in there) is not (f"{path}[]" in here)}


def without_status(found: Difference) -> Difference:
    """Return the same with outcomes as a WebSocket says them."""
    outcomes = {(title, _bare(there), _bare(here)) for title, there, here in found.outcomes}
    return Difference(
        found.only_there, found.only_here, found.types, found.at_times, {o for o in outcomes if o[1] != o[2]}
    )


def _bare(outcome: str) -> str:
    return "refused" if outcome.endswith("false") or not outcome.startswith("2") else "done"


def refusals(all_pairs: Mapping[str, list[tuple[str, Answer, Answer]]]) -> Difference:
    """Compare what both say when they refuse, over all routes."""
    shapes = [
        (there.shape, here.shape)
        for pairs in all_pairs.values()
        for _, there, here in pairs
        if not there.is_good and not here.is_good
    ]
    found = Difference()
    _compare_shapes(shapes, found)
    return found
