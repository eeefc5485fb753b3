"""No command without a scenario."""

from pathlib import Path

from bunqueue_trio.protocol.catalog import CATALOG


def test_every_command_that_anybody_may_send_is_sent_by_every_carrier():
    scenarios = "\n".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    sent = [spec.command.__name__ for spec in CATALOG if spec.http is not None]
    assert [name for name in sent if f"c.{name}(" not in scenarios] == []
