"""The page about the original says of each of its routes what is so here."""

import re
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.pages.openapi import document
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


def _fields(schema: Any, path: str = "") -> set[str]:
    """Return the fields of an answer as the description has it, each behind what it is in; ``[]`` is each item of a list."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found = set[str]()
    for each in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        found |= _fields(each, path)
    if "items" in schema and isinstance(schema["items"], dict):
        found |= _fields(schema["items"], f"{path}[]")
    for name, each in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        found |= {here} | _fields(each, here)
    return found


def _named(cell: str) -> set[str]:
    """Return the fields that a cell of the page names, but for those of which it says that they are as in another row."""
    found = set[str]()
    for part in re.split(r"; ", re.sub(r"(HTTP|WebSocket): ", "", cell)):
        parent, _, names = part.rpartition(": ")
        if "as in" not in part:
            found |= {f"{parent.strip(' `')}.{name}".lstrip(".") for name in re.findall(r"`([^`]+)`", names)}
    return found


DOCUMENT = document()
COMMANDS_HERE = [row for row in ROWS if row[2] != "no" and row[2].strip("`") in COMMANDS]


@pytest.mark.parametrize(("method", "path", "named", "rest"), COMMANDS_HERE, ids=[f"{row[0]} {row[1]}" for row in COMMANDS_HERE])  # fmt: skip
def test_fields_that_only_one_has_are_so_in_the_catalogue(method: str, path: str, named: str, rest: str):
    """What the page says only this server gives is in its answer, and what only the original gives is not."""
    route = next(route for route in ROUTES if (route.method, re.sub(r":\w+", ":", route.path)) == (method, re.sub(r":\w+", ":", path)))  # fmt: skip
    answer = DOCUMENT["paths"][re.sub(r":(\w+)", r"{\1}", route.path)][method.lower()]["responses"]["200"]
    has = _fields(answer["content"]["application/json"]["schema"])
    only_there, only_here = (_named(cell) for cell in rest.split("|")[:2])
    # What a value of any shape holds is not described.
    assert {each for each in only_here if each not in has and each.partition(".")[0].rstrip("[]") not in has} == set()
    assert {each for each in only_there if each in has} == set()
