"""Where a command is over HTTP stands in its row alone: the command line and the client without a loop derive it."""

import ast
from pathlib import Path

import pytest

import bunqueue_trio
from bunqueue_trio.protocol.routes import ROUTES

SOURCE = Path(bunqueue_trio.__file__).parent
BEGINS = {f"/{route.path.split('/')[1]}" for route in ROUTES} - {"/"}


def by_hand(text: str) -> list[str]:
    """Return the texts in a program that begin as a path of the server does."""
    texts = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    found = [each for each in texts if isinstance(each, str) and "\n" not in each]
    return [each for each in found if "/" + each[1:].split("/")[0].split("?")[0] in BEGINS and each[:1] == "/"]


def test_paths_by_hand_are_found():
    assert sorted(by_hand('ask(f"/jobs/{id}/state")\nask("/workers?limit=1")\n"of `/jobs`, or /nobody"')) == [
        "/jobs/",
        "/workers?limit=1",
    ]


@pytest.mark.parametrize(
    "file", sorted([*SOURCE.glob("cli/*.py"), *SOURCE.glob("sync/*.py")]), ids=lambda file: file.stem
)
def test_no_path_of_a_route_is_written_by_hand(file: Path):
    assert by_hand(file.read_text(encoding="utf-8")) == []
