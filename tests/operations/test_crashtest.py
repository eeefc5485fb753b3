"""The command that tries a disk: whatever ends it early, it says where the files are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import crashtest, main
from bunqueue_trio.testing.crash.audit import judge_slots
from bunqueue_trio.testing.crash.load import SLOT_EVERY_MS
from bunqueue_trio.testing.crash.rounds import Failed


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Failed("the server ended at its start"), 1, "bunqueue-trio: the server ended at its start"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BaseExceptionGroup("of a nursery", [KeyboardInterrupt()]), 130, "interrupted"),
    ],
)
def test_what_ends_it_early_leaves_the_files_and_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int, told: str
):
    def rounds(directory: Path, *_: object, **options: Any) -> Iterator[Any]:
        (directory / "queue.db").touch()
        yield "kill    1: nothing was lost"
        raise error

    monkeypatch.setattr(crashtest, "rounds", rounds)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    done = CliRunner().invoke(main, ["crashtest", "--data", str(tmp_path), "--seed", "1"])
    (kept,) = tmp_path.iterdir()
    assert (done.exit_code, done.stderr) == (code, f"{told}; the files are in {kept}\n")
    assert (kept / "queue.db").exists()


def test_a_slot_that_brings_two_jobs_or_none_is_a_breach():
    whole = [1000 + n * SLOT_EVERY_MS for n in range(40)]
    assert judge_slots(whole) == []
    assert judge_slots(whole[:5] + whole[4:]) == ["slot 2000 brings a job after that of 2000"]
    assert judge_slots(whole[:5] + whole[4:5]) == ["slot 2000 brings a job after that of 2000"]
    assert judge_slots(whole[:30] + whole[31:]) == ["slots between 8250 and 8750 bring no job"]
    # After a long time without a server the last of them are made up.
    assert judge_slots(whole[:1] + whole[5:]) == []
