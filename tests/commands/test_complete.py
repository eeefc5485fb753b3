"""No command without a scenario, and none without an answer of the naive queue."""

from pathlib import Path

from bunqueue_trio import commands as public
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands.spec import Does
from tests.engine.model_commands import ANSWERS

LISTED = {c.GetTimeline}
"""What is read of events in pages is a step of its own in the random lives: `World.look_at_timeline`."""


def test_every_command_that_anybody_may_send_is_sent_by_every_carrier():
    scenarios = "\n".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    sent = [spec.command.__name__ for spec in CATALOG if spec.http is not None]
    assert [name for name in sent if f"c.{name}(" not in scenarios] == []


def test_every_command_of_the_engine_has_an_answer_of_the_naive_queue():
    """The random lives compare the two; a command without one is never tried there."""
    asked = {spec.command for spec in CATALOG if spec.does is not Does.SESSION}
    assert asked - set(ANSWERS) == LISTED


def test_the_rows_of_one_theme_are_not_taken_for_all():
    assert not hasattr(c, "SPECS")
    assert not hasattr(public, "SPECS")
