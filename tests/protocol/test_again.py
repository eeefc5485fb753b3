"""Which requests may be sent again to the next leader: what only reads, and what its token guards."""

from typing import Any

import pytest

from bunqueue_trio.protocol.again import Again, repeatable
from bunqueue_trio.protocol.catalog import CATALOG
from tests.wire.raw import request_bytes


@pytest.mark.parametrize("spec", [spec for spec in CATALOG if spec.http], ids=lambda spec: spec.tag)
def test_the_catalogue_says_of_each_command_whether_it_may_be_asked_again(spec: Any):
    path = "/".join("x" if part.startswith(":") else part for part in spec.http.path.split("/"))
    bodies = {b"": False, b"[": False, b"[]": False, b"{}": False, b'{"token":"t"}': True, b'{"tokens":["t"]}': True}
    for body, has_token in bodies.items():
        request = request_bytes(spec.http.method, f"{path}?x=1", body)
        assert repeatable(request) is spec.repeatable(with_token=has_token), body


@pytest.mark.parametrize(
    ("request_", "again"),
    [
        (request_bytes("GET", "/stats"), Again.FREELY),
        (request_bytes("HEAD", "/ready"), Again.FREELY),
        (request_bytes("GET", "/nowhere"), Again.FREELY),
        (request_bytes("GET", "/jobs/%zz"), Again.FREELY),
        (request_bytes("POST", "/jobs/%zz/promote"), Again.NEVER),
        (request_bytes("POST", "/ticket"), Again.NEVER),
        (request_bytes("POST", "/nowhere"), Again.NEVER),
        (request_bytes("POST", "/jobs/fail-batch", b'{"failures":[{"id":"a","token":"t"}]}'), Again.GUARDED),
        (request_bytes("POST", "/jobs/fail-batch", b'{"failures":[{"id":"a","token":"t"},{"id":"b"}]}'), Again.NEVER),
        (b"\xff\r\n\r\n", Again.NEVER),
    ],
)
def test_what_is_no_command_is_repeated_if_it_only_reads(request_: bytes, again: Again):
    assert repeatable(request_) is again
