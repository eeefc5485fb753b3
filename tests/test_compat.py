"""The comparison with the original: what counts as a difference, what must be declared, and, where npm can install it, a real one."""

import stat
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.protocol.catalog import COMMANDS
from trials.compat import notes
from trials.compat.asking import Asker, path_of
from trials.compat.comparison import (
    Comparison,
    Row,
    Spoken,
    compare_servers,
    here,
    put_together,
    split,
    unasked,
    undeclared,
)
from trials.compat.differences import Difference, compare, compare_shapes, never_filled, without_status
from trials.compat.original import commands_of, paths_of
from trials.compat.page import tables, written
from trials.compat.scenario import CONTRACT, SCENARIO, STREAMS
from trials.compat.shapes import Answer, answer_of, shape_of
from trials.lib import servers

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


def said(body: Any, status: int | None = 200) -> Answer:
    return answer_of(status, body if isinstance(body, dict) else {"ok": True, "value": body})


def both(there: Any, here: Any) -> Difference:
    return compare([("a call", said(there), said(here))])


JOB = {"id": "x", "queue": "q", "data": {"sent": 1}, "maxAttempts": 3}


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ({"n": 1, "f": 1.5}, {"": "object", "n": "number", "f": "number"}),
        ({"t": True, "s": "x", "o": None}, {"": "object", "t": "boolean", "s": "text", "o": "null"}),
        ({"a": {"b": 1}}, {"": "object", "a": "object", "a.b": "number"}),
        ({"l": [{"a": 1}, {"a": None}]}, {"": "object", "l": "list", "l[]": "object", "l[].a": "number or null"}),
        ({"l": []}, {"": "object", "l": "list"}),
        ({"data": {"sent": 1, "more": 2}}, {"": "object", "data": "sent"}),
        ({"job": JOB}, {"": "object", "job": "job", "job.id": "text", "job.queue": "text", "job.data": "sent", "job.maxAttempts": "number"}),
        ({"ok": True, "reqId": 7, "id": "x"}, {"": "object", "id": "text"}),
    ],
)  # fmt: skip
def test_a_shape_has_each_field_with_its_type(value: Any, shape: dict[str, str]):
    assert shape_of(value) == shape


def test_the_shape_of_metrics_is_their_families():
    assert answer_of(200, b"# HELP a_total x\n# TYPE a_total counter\na_total 1\n").shape == {
        "": "metrics",
        "a_total": "counter",
    }
    assert answer_of(200, b"OK").shape == {"": "text"}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"ok": True}, "200"),
        (404, {"ok": False, "error": "x"}, "404"),
        (200, {"ok": False, "error": "x"}, "200 with `ok` false"),
        (None, {"ok": True}, "done"),
        (None, {"ok": False}, "refused"),
    ],
)
def test_an_outcome_is_the_status_and_whether_it_went_well(status: int | None, body: dict[str, Any], outcome: str):
    assert answer_of(status, body).outcome == outcome


def test_the_same_shapes_do_not_differ_whatever_the_values_are():
    assert not both({"a": 1, "b": [{"c": "x"}]}, {"a": 2.5, "b": [{"c": "y"}, {"c": "z"}]})


def test_a_field_that_one_alone_gives_stands_without_what_is_in_it():
    difference = both({"a": 1, "gone": {"inner": 1}}, {"a": 1, "new": None})

    assert difference == Difference(only_there={"gone"}, only_here={"new"})


def test_another_type_of_a_field_is_a_difference():
    assert both({"a": {"b": 1}}, {"a": {"b": "1"}}) == Difference(types={("a.b", "number", "text")})
    assert both({"a": None}, {"a": 1}) == Difference(types={("a", "null", "number")})


def test_types_are_those_of_all_calls():
    pairs = [("one", said({"a": None}), said({"a": 1})), ("two", said({"a": 1}), said({"a": None}))]

    assert not compare(pairs)


def test_what_is_left_out_in_one_call_is_reported_as_such():
    pairs = [("one", said({"a": 1}), said({"a": 1})), ("two", said({}), said({"a": 1}))]

    assert compare(pairs) == Difference(at_times={("a", "there")})


def test_another_status_is_a_difference_and_so_is_a_refusal_with_200():
    refused = {"ok": False, "error": "x"}
    pairs = [("gone", said(refused, 400), said(refused, 404)), ("bad", said(refused, 200), said(refused, 400))]

    assert compare(pairs).outcomes == {("gone", "400", "404"), ("bad", "200 with `ok` false", "400")}
    assert not without_status(compare(pairs))


def test_fields_are_compared_where_both_did_what_was_asked():
    assert both({"ok": True, "id": "x"}, {"ok": False, "error": "x", "code": "y"}).only_there == set()


def test_an_empty_list_lacks_nothing_and_one_that_is_never_filled_is_reported():
    pairs = [("a call", said({"l": [{"a": 1}]}), said({"l": []}))]

    assert not compare(pairs)
    assert never_filled(pairs) == {"l"}
    assert never_filled([*pairs, ("another", said({"l": []}), said({"l": [{"a": 1}]}))]) == set()


def test_what_is_so_over_one_carrier_only_stands_apart():
    http = Difference(only_there={"a", "b"}, outcomes={("gone", "400", "404"), ("bad", "200", "400")})
    websocket = Difference(only_there={"a", "c"}, outcomes={("bad", "done", "refused"), ("odd", "refused", "done")})

    shared, over_http, over_websocket = split(Row("GET /x", "X", (), http, websocket))

    assert shared == Difference(only_there={"a"}, outcomes={("gone", "400", "404"), ("bad", "200", "400")})
    assert over_http == Difference(only_there={"b"})
    assert over_websocket == Difference(only_there={"c"}, outcomes={("odd", "refused", "done")})


@pytest.fixture
def same() -> Comparison:
    """Two servers that say the same to everything."""
    answers = {place: said({"ok": True, "job": JOB}) for place in range(len(SCENARIO))}
    spoken = Spoken(answers, answers, {}, {route: [said({}), said({})] for route in STREAMS})
    return put_together(spoken, spoken, set(), set())


def test_what_does_not_differ_needs_no_sentence(same: Comparison):
    assert [row.route for row in same.rows if row.differs and row.here] == []
    assert [problem for problem in undeclared(same) if "it differs" in problem] == []


def test_what_differs_without_a_sentence_is_reported(same: Comparison):
    assert "GET /ping" not in notes.WHY
    same.rows = [
        row._replace(http=Difference(types={("data", "object", "text")})) if row.route == "GET /ping" else row
        for row in same.rows
    ]
    same.events["stalled"] = Difference(only_there={"x"})
    same.missing = ["Whatever"]
    same.refusals = Difference(only_there={"detail"})

    problems = undeclared(same)

    assert "GET /ping: it differs, and nothing says why" in problems
    assert "event stalled: it differs, and nothing says why" in problems
    assert "Whatever: a command that is not here, and nothing says why" in problems
    assert any(problem.startswith("a refusal has other fields") for problem in problems)


def test_a_sentence_about_what_is_not_so_is_reported(same: Comparison):
    assert "Hello: said to be missing, and it is not" in undeclared(same)
    assert "event drained: a sentence is about it, but it does not differ" in undeclared(same)
    same.rows = [row for row in same.rows if row.route != "GET /crons"]
    assert "GET /crons: a sentence is about it, but nobody asks for it" in undeclared(same)


def test_what_the_original_has_and_nobody_asks_for_is_reported():
    assert unasked({"GET /queues/:", "GET /ping"}, {"PUSH"}) == [
        "GET /queues/:: the original has it, and nobody asks for it"
    ]
    assert unasked(set(), {"Why", "Hello"}) == ["Why: both have the command, and nobody sends it"]


def test_events_of_one_alone_are_reported():
    assert compare_shapes({"": "object", "a": "text"}, {"": "object"}) == Difference(only_there={"a"})
    silent: dict[str, Any] = {
        "http": {},
        "websocket": {},
        "streams": {route: [said({}), said({})] for route in STREAMS},
    }
    there = Spoken(**silent, events={"pushed": {"": "object"}, "paused": {"": "object"}})

    found = put_together(
        there, Spoken(**silent, events={"pushed": {"": "object"}, "drained": {"": "object"}}), set(), set()
    )

    assert found.events == {"pushed": Difference(), "paused": "there", "drained": "here"}


def test_names_of_a_run_are_filled_in():
    asker = Asker("ws-")
    asker.keep(next(call for call in SCENARIO if call.keep == {"job": "id"}), {"id": "a/b"})

    assert asker.filled({"ids": ["$job"], "queue": "~q", "n": 1}) == {"ids": ["a/b"], "queue": "ws-q", "n": 1}
    assert path_of("/jobs/:id/ack", asker.filled({"id": "$job"})) == "/jobs/a%2Fb/ack"


def test_every_route_of_the_contract_and_every_command_of_a_row_is_asked_for():
    asked = {call.route for call in SCENARIO} | set(STREAMS)
    assert set(CONTRACT) <= asked
    assert (
        {target for route, target in here().items() if " " not in route}
        == {"Auth", "Subscribe", "Unsubscribe"}
        <= COMMANDS.keys()
    )


def test_the_routes_of_the_original_are_read_from_its_files(tmp_path: Path):
    """Patterns, texts and cases of a switch, as its compiled files have them."""
    at = tmp_path / "dist" / "infrastructure" / "server"
    (at / "http-routes").mkdir(parents=True)
    (at / "handler-routes").mkdir()
    (at / "httpRouter.js").write_text("if (path === '/ping' && method === 'GET') {}")
    (at / "http-routes" / "x.js").write_text(
        r"const RE = /^\/queues\/([^/]+)\/dlq-config$/; const R = /^\/jobs\/custom\/([^/]+)$/;"
    )
    (at / "handler-routes" / "jobs.js").write_text("case 'PUSH':\n        case 'GetJob':")
    kind = servers.Kind("bunqueue", "0", ("bun", str(tmp_path / "dist" / "main.js")))

    assert paths_of(kind) == {"/ping", "/queues/:/dlq-config", "/jobs/custom/:"}
    assert commands_of(kind) == {"PUSH", "GetJob", "Auth", "Subscribe", "Unsubscribe"}


def test_tables_take_the_place_of_those_before_and_the_prose_stays(same: Comparison):
    heads = "\n\n".join("\n".join([*lines[:2], "| old |"]) for lines in tables(same))

    once = written(f"before\n\n{heads}\n\nafter\n", same)

    assert once.startswith("before\n")
    assert once.endswith("\n\nafter\n")
    assert "| old |" not in once
    assert "| `GET /ping` | `Ping` | | | | |\n" in once
    assert written(once, same) == once


def test_a_page_without_a_place_for_a_table_is_refused(same: Comparison):
    with pytest.raises(ValueError, match="no table with the head"):
        written("a page\n", same)


def test_the_page_of_the_repository_has_the_places(same: Comparison):
    assert written(PAGE.read_text(), same)


def test_a_cell_says_where_and_how(same: Comparison):
    http = Difference(
        only_there={"a", "in.b", "in.c"}, types={("d", "number", "text")}, outcomes={("gone", "400", "404")}
    )
    rows = [row._replace(http=http, websocket=Difference()) if row.route == "GET /ping" else row for row in same.rows]

    (line,) = [
        line for lines in tables(Comparison(rows, Difference(), {}, [])) for line in lines if "GET /ping" in line
    ]

    other = "gone: 400 there, 404 here; HTTP: `d`: number there, text here"
    assert line == f"| `GET /ping` | `Ping` | HTTP: `a`; `in`: `b`, `c` | | {other} | |"


def test_a_row_says_how_its_jobs_differ_from_those_elsewhere(same: Comparison):
    """Forty fields in every row that has a job would hide what is its own."""
    fields = [f"field{n}" for n in range(9)]
    rows = {row.route: row for row in same.rows}
    for route, prefix, more in (("GET /jobs/:id", "job", []), ("GET /queues/:queue/jobs/list", "jobs[]", ["_state"])):
        http = Difference(only_there={f"{prefix}.{name}" for name in [*fields[bool(more) :], *more]})
        rows[route] = rows[route]._replace(http=http, websocket=http)

    lines = [line for table in tables(Comparison([*rows.values()], Difference(), {}, [])) for line in table]

    assert any("| `job`: `field0`, `field1`, `field2`" in line for line in lines)
    assert any("| `jobs[]`: as in `GET /jobs/:id`, without `field0`, with `_state` |" in line for line in lines)


def npm(directory: Path, script: str) -> None:
    program = directory / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(stat.S_IRWXU)


INSTALLS = """
while [ "$1" != --prefix ]; do shift; done
mkdir -p "$2/node_modules/.bin" "$2/node_modules/bunqueue/dist"
touch "$2/node_modules/bunqueue/dist/main.js"
printf '#!/bin/sh\necho 1.2.3\n' > "$2/node_modules/.bin/bun"
chmod +x "$2/node_modules/.bin/bun"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the original that is empty, and a directory of programs that is asked first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    place = tmp_path / "cache" / "original"
    place.parent.mkdir()
    monkeypatch.setattr(servers, "own_cache", lambda name: place)
    return place


def test_the_original_is_put_there_whole(tmp_path: Path, cache: Path):
    """What an install that was cut short has left is in nobody's way."""
    npm(tmp_path, INSTALLS)
    (cache / "node_modules").mkdir(parents=True)

    found = servers.original(None)

    assert isinstance(found, servers.Kind)
    assert found.version.endswith("on Bun 1.2.3")
    assert [each.name for each in cache.parent.iterdir()] == ["original"]


def test_an_npm_that_fails_is_a_reason_and_leaves_nothing(tmp_path: Path, cache: Path):
    npm(tmp_path, f"{INSTALLS}\nexit 7")

    assert servers.original(None) == "the original is left out: npm install ended with 7"
    assert list(cache.parent.iterdir()) == []


@pytest.mark.slow
def test_the_page_says_what_both_servers_say_and_everything_is_declared():
    original = servers.original(None)
    if isinstance(original, str):
        pytest.skip(original)

    found = compare_servers(original, servers.ours())

    assert found.problems == []
    assert written(PAGE.read_text(), found) == PAGE.read_text(), "python3 scripts/compat.py --write-docs writes it"
