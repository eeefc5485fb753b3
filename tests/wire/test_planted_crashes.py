"""Does the crash test find anything? What operators do is answered before it is committed, one kind after the other; each must be found."""

from pathlib import Path

import pytest

from bunqueue_trio.testing.crash import rounds as crash
from tests.wire.crash_faults import FAULTS

KILLS = 40


# httpx leaves the body of a request half read where the server is killed amid it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <async_generator object ByteStream.__aiter__")
@pytest.mark.long
@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_answered_before_it_is_committed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.setattr(crash, "PROGRAM", ("-m", "tests.wire.crash_faults", kind))
    breaches = [breach for done in crash.rounds(tmp_path, KILLS, 1) for breach in done.verdict.breaches]
    assert any(FAULTS[kind][1] in breach for breach in breaches), breaches
