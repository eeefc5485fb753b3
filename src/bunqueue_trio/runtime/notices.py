"""What the log says of schedules: one line for each that was affected, whatever number of slots that was."""

from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from bunqueue_trio.engine.planner import Notice
from bunqueue_trio.logs.lines import EACH

_log = structlog.get_logger()


def tell(notices: Iterable[Notice]) -> None:
    """Log them."""
    for notice in notices:
        _log.warning(
            notice.event,
            schedule=notice.name,
            first=_time(notice.first),
            last=_time(notice.last),
            jobs=notice.jobs,
            # Nothing else tells of each of them.
            **{EACH: True},
        )


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="seconds")
