"""The page about the original says of each of its routes what is so here."""

import re
from pathlib import Path

import pytest

from bunqueue_trio.protocol.catalog import COMMANDS, SPECS
from bunqueue_trio.protocol.routes import ROUTES
from trials.compat import notes
from trials.compat.scenario import CONTRACT

PAGE = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()
ROWS = re.findall(r"^\| `([A-Z]+) (/\S+)` \| (\S+) \| (.+) \|$", PAGE, re.MULTILINE)
HERE = {(route.method, re.sub(r":\w+", ":", route.path)): route.target for route in ROUTES}


def test_the_page_has_a_row_for_each_route_of_the_original():
    routes = [f"{method} {path}" for method, path, _, _ in ROWS]

    assert len(set(routes)) == len(routes) == 85
    assert routes[: len(CONTRACT)] == list(CONTRACT)


@pytest.mark.parametrize(("method", "path", "named", "rest"), ROWS)
def test_a_row_says_what_is_so(method: str, path: str, named: str, rest: str):
    """Of the commands here, of the routes that its sentence names, and the sentence itself."""
    target = HERE.get((method, re.sub(r":\w+", ":", path)))
    if target is None:
        assert named == "no"
    else:
        assert named == f"`{target if isinstance(target, str) else SPECS[target].tag}`"
    why = rest.rpartition("|")[2].strip()
    assert why == notes.WHY.get(f"{method} {path}", "")
    for asked, there in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)", why):
        assert (asked, re.sub(r":\w+", ":", there)) in HERE


def test_no_command_is_said_to_be_missing_that_is_here():
    """And what there is instead is here, where it is a name."""
    missing = [name for names in notes.MISSING.values() for name in names]

    assert [name for name in missing if name in COMMANDS] == []
    for why, names in notes.MISSING.items():
        assert f"| {', '.join(f'`{name}`' for name in names)} | {why} |\n" in PAGE
        assert [name for name in re.findall(r"`([A-Z]+[a-z]\w+)`", why) if name not in COMMANDS] == []


def test_what_is_said_to_be_more_is_there():
    more = PAGE.split("Not there, but here")[1]
    found = re.findall(r"`(GET|POST) (/[^`]*)`", more)
    assert len(found) > 8
    assert [route for route in found if (route[0], re.sub(r":\w+", ":", route[1])) not in HERE] == []
