"""No test is judged by the clock of the wall: a limit in real time is there to end a hang, and each is long enough for a busy machine."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.stream.conftest import IN_VIRTUAL_TIME

TESTS = Path(__file__).parent
FILES = sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py"))
# Where a function takes its limit: as which argument, and by what name.
FIRST = {"settimeout", "wait", "join", "result", "flush", "fail_after"}
SECOND = {"create_connection", "until"}
NAMED = {"timeout", "within_s", "open_timeout"}
# What takes one, of the names that other functions have, too, of which `timeout` is the time of a job or of a pull.
TAKE_TIMEOUT = {
    "run",
    "communicate",
    "check_output",
    "check_call",
    "urlopen",
    "HTTPConnection",
    "acquire",
    "recv",
    "create_connection",
}
HTTPX = {"get", "post", "put", "delete", "request", "stream", "Client", "AsyncClient"}
LIMIT_NAME = re.compile(r"(?:PATIENCE|WITHIN|WAIT|HANGS?)_S$")
SHORT_S = 0.01
"""Up to here it is asked whether something is there already, not waited for."""
VIRTUAL = ("runtime/", "sim/", "cluster/", *(f"stream/{name}" for name in IN_VIRTUAL_TIME))
CLOCKS = {"autojump_clock", "bunqueue", "mock_clock"}
"""Whoever asks for one of these runs in virtual time."""
ALLOWED = {
    "client/test_every_moment.py: trio.fail_after(40)": "its story happens in virtual time",
    "client/test_idle_pulls.py: anyio.fail_after(50)": "it is less than the 60 s that the idle pulls wait",
    "examples/test_crawler.py: httpx.AsyncClient()": "nothing is asked by it",
    "stem.py: listening.settimeout(1)": "it looks each second whether its parent is there",
    "operations/test_process.py: ServerProcess(tmp_path / 'q.db', command=STANDS, within_s=0.1)": "what is never ready is not waited for",
    "stream/test_websocket_events.py: rude.sock.settimeout(2.0)": "that nothing more is taken is what is looked for",
    "test_leftovers.py: run_to_its_end([sys.executable, '-c', code], within_s=1)": "what hangs is not waited for",
    "ui/test_page_news.py: trio.fail_after(1.1)": "virtual time",
    "wire/test_overload.py: sock.settimeout(3)": "that nothing more is taken is what is looked for",
    "wire/test_postgres.py: load.wait(20)": "a number of answers, not of seconds",
    "wire/test_postgres.py: load.wait(50)": "a number of answers, not of seconds",
}
"""What is let off, and why."""


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_of_httpx(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "httpx"
    )


def limits(call: ast.Call) -> Iterator[ast.expr]:
    """Yield what a call says of how long it waits at most."""
    name = name_of(call)
    if name in FIRST:
        yield from call.args[:1]
    if name in SECOND:
        yield from call.args[1:2]
    for keyword in call.keywords:
        if keyword.arg in NAMED and (keyword.arg != "timeout" or name in TAKE_TIMEOUT or is_of_httpx(call)):
            yield keyword.value


def is_short(value: ast.expr) -> bool:
    number = value.value if isinstance(value, ast.Constant) else None
    return isinstance(number, int | float) and not isinstance(number, bool) and SHORT_S < number < PATIENCE_S


def has_the_librarys(call: ast.Call, opens_websockets: bool) -> bool:
    """Whether a call waits as long as a library thinks is enough: 5 s for an answer, 10 s for a handshake."""
    given = {keyword.arg for keyword in call.keywords}
    if is_of_httpx(call) and name_of(call) in HTTPX:
        return not given & {"timeout", "transport"}
    return (
        opens_websockets
        and isinstance(call.func, ast.Name)
        and call.func.id == "connect"
        and not given & {"open_timeout", None}
    )


def virtual_lines(nodes: list[ast.AST]) -> set[int]:
    return {
        line
        for node in nodes
        if isinstance(node, ast.AsyncFunctionDef)
        and CLOCKS & {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
        for line in range(node.lineno, node.end_lineno or 0)
    }


@cache
def found_in(file: str) -> tuple[str, ...]:
    text = (TESTS / file).read_text()
    return tuple(short_limits(text, is_virtual=file.startswith(VIRTUAL)))


def short_limits(text: str, *, is_virtual: bool = False) -> Iterator[str]:
    """Yield the lines of a test file that wait for less than a busy machine may take."""
    nodes = [*ast.walk(ast.parse(text))]
    virtual = virtual_lines(nodes)
    opens_websockets = "from websockets.sync.client import" in text
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and is_short(node.value):
            names = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(name, ast.Name) and LIMIT_NAME.search(name.id) for name in names):
                yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        in_virtual_time = is_virtual or node.lineno in virtual
        if has_the_librarys(node, opens_websockets) or (not in_virtual_time and any(map(is_short, limits(node)))):
            yield ast.unparse(node)


@pytest.mark.slow
def test_no_limit_in_real_time_is_short():
    found = {f"{file}: {each}" for file in FILES for each in found_in(file)}
    assert found - ALLOWED.keys() == set(), "take PATIENCE_S of tests/patience.py"
    assert ALLOWED.keys() - found == set(), "nobody needs to be let off"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("event.wait(10)", True), ("event.wait(60)", False), ("event.wait(PATIENCE_S)", False), ("sock.settimeout(0)", False),
        ("subprocess.run(command, timeout=30)", True), ("client.pull('q', timeout=5)", False), ("until(is_so, 20, told)", True),
        ("socket.create_connection(address, 3)", True), ("run_to_its_end(command, within_s=50)", True), ("','.join(words)", False),
        ("httpx.get(url)", True), ("httpx.get(url, timeout=60)", False), ("httpx.Client(transport=inside)", False), ("PATIENCE_S = 10.0", True),
        ("from websockets.sync.client import connect\nconnect(url)", True), ("connect(url)", False),
        ("async def test(bunqueue):\n    with trio.fail_after(5):\n        pass", False), ("with trio.fail_after(5):\n    pass", True),
    ],
)  # fmt: skip
def test_a_short_limit_is_found_and_nothing_else(text: str, found: bool):
    assert bool([*short_limits(text)]) is found
