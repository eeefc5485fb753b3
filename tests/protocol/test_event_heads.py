"""What stands in the head of an event is read without its payload, however large that is and whatever it is made to look like."""

import msgspec
import pytest
from msgspec import UNSET, Raw

from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.events import EXTRA, HEAD_BYTES, Event, without_data

LARGE = Raw(b"[" + b"[1]," * HEAD_BYTES + b"1]")


@pytest.mark.parametrize("job_id", ["j", '","data":', "é" * 256, "\\" * 256])
def test_all_but_the_payload_is_as_it_was(job_id: str):
    event = Event(event_type="pushed", queue="q" * 256, job_id=job_id, timestamp=2**53, data=LARGE)
    whole = encode(event)
    short = without_data(whole)
    assert len(short) < HEAD_BYTES < len(whole)
    assert msgspec.json.decode(short, type=Event) == msgspec.structs.replace(event, data=UNSET)


def test_a_small_event_is_left_as_it_is():
    body = encode(Event(event_type="pushed", queue="q", job_id="j", timestamp=1, data=Raw(b'{"data":1}')))
    assert without_data(body) is body


def test_a_large_one_without_a_payload_is_left_as_it_is():
    body = encode(Event(event_type="failed", queue="q", job_id="j", timestamp=1, error=',"data":' * HEAD_BYTES))
    assert without_data(body) is body


def test_no_field_stands_behind_a_payload():
    """Else it would be cut off with it."""
    assert [kind for kind, name in EXTRA.items() if name == "data"] == ["pushed"]
