"""What answers at an address may be something else: a proxy that wants somebody to sign in, or a server that breaks off."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from tests.operations.answering import answering

PAGE = b"<html>\n<body>Please sign in</body>\n</html>\n"


class Other(BaseHTTPRequestHandler):
    """Answers 200 to everything, with a page."""

    kind, body = "text/html", PAGE

    def do_GET(self) -> None:
        body = self.body
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Broken(Other):
    """Answers with lines of which the last one ends in the middle."""

    kind, body = "application/x-ndjson", b'{"id":"a"}\n{"id":'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with answering(Other) as url:
        yield url


@pytest.mark.parametrize("command", ["export", "events", "events --json", "watch", "jobs", "queues", "findings"])
def test_a_page_to_sign_in_is_no_answer(url: str, command: str):
    done = CliRunner().invoke(main, [*command.split(), "--url", url])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("is no bunqueue server (200)\n")


def test_lines_that_end_in_the_middle_are_a_part():
    with answering(Broken) as url:
        done = CliRunner().invoke(main, ["export", "--url", url])
    assert (done.exit_code, done.stdout) == (1, '{"id":"a"}\n')
    assert done.stderr.endswith("broke off in the middle of a line\n")
