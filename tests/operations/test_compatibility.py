"""The page about the original says of each of its routes what is so here."""

import re
from pathlib import Path

import pytest

from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()
ROWS = re.findall(r"^\| `([A-Z]+) (/\S+)` \| (\S+) \| (.+) \|$", PAGE, re.MULTILINE)
HERE = {(route.method, re.sub(r":\w+", ":", route.path)): route.target for route in ROUTES}


def test_the_page_has_a_row_for_each_route_of_the_original():
    assert len({(method, path) for method, path, _, _ in ROWS}) == len(ROWS) == 70


@pytest.mark.parametrize(("method", "path", "named", "note"), ROWS)
def test_a_row_says_what_is_so(method: str, path: str, named: str, note: str):
    target = HERE.get((method, re.sub(r":\w+", ":", path)))
    if target is None or isinstance(target, str):
        assert (named, target) == ("no", None)
    else:
        assert named == f"`{SPECS[target].tag}`"
    for asked, there in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)", note):
        assert (asked, re.sub(r":\w+", ":", there)) in HERE


def test_what_is_said_to_be_more_is_there():
    more = PAGE.split("Not there, but here")[1]
    found = re.findall(r"`(GET|POST) (/[^`]*)`", more)
    assert len(found) > 8
    assert [route for route in found if (route[0], re.sub(r":\w+", ":", route[1])) not in HERE] == []
