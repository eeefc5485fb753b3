"""Half a surrogate pair in a payload, which is no text, is read as it was sent."""

import pytest

from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.surrogates import read


@pytest.mark.parametrize(
    "payload",
    [rb'"\ud83d"', rb'"\ude00"', rb'"\ud83d\ude00"', rb'"\ude00\ud83d"', rb'"\\ud83d"', rb'"\\\ud83d x"', rb'{"\ud83d":["\ude00"]}',
     rb'["\\ud83d","\ud83d"]'],
)  # fmt: skip
def test_it_comes_as_it_was_sent(payload: bytes):
    reply = read(b'{"ok":true,"id":"x","result":%b}' % payload, r.ResultReply)
    assert bytes(reply.result) == payload
