"""The catalogue: one row for each command of this server, and what is derived from the rows.

A row stands beside its struct in ``commands/<theme>.py``. What a row cannot know has a table of its own, held complete by a
test: handlers, and bulk commands that are done in steps (``runtime/half.py``).
"""

from bunqueue_trio.protocol.commands import (
    Command,
    actions,
    clear,
    configs,
    crons,
    dead,
    deliver,
    find,
    jobs,
    logs,
    look,
    manage,
    push,
    queues,
    report,
    reruns,
    schedules,
    session,
    upkeep,
    workers,
)
from bunqueue_trio.protocol.commands.spec import Does, Role, Spec

CATALOG: tuple[Spec, ...] = (
    *push.SPECS,
    *deliver.SPECS,
    *look.SPECS,
    *jobs.SPECS,
    *dead.SPECS,
    *reruns.SPECS,
    *manage.SPECS,
    *report.SPECS,
    *queues.SPECS,
    *configs.SPECS,
    *clear.SPECS,
    *logs.SPECS,
    *actions.SPECS,
    *schedules.SPECS,
    *find.SPECS,
    *workers.SPECS,
    *crons.SPECS,
    *upkeep.SPECS,
    *session.SPECS,
)
"""Every row, by theme."""

SPECS: dict[type[Command], Spec] = {spec.command: spec for spec in CATALOG}
"""Command → its row."""

COMMANDS: dict[str, type[Command]] = {spec.tag: spec.command for spec in CATALOG}
"""``cmd`` → command: everything this server understands."""


def commands_that(*does: Does) -> frozenset[type[Command]]:
    """Return the commands of these kinds."""
    return frozenset(spec.command for spec in CATALOG if spec.does in does)


READS: frozenset[type[Command]] = commands_that(Does.READS, Does.NOTES)
"""They change nothing that is kept on the disk, and are answered even while that is down."""

TAKES: frozenset[type[Command]] = commands_that(Does.TAKES)
"""They give jobs away, which must come back if they cannot be delivered."""

SESSION: frozenset[type[Command]] = commands_that(Does.SESSION)
"""The engine knows nothing of them."""

FILLS: frozenset[type[Command]] = frozenset(spec.command for spec in CATALOG if spec.fills)
"""They bring new work; under overload they are refused before those that empty the queues."""

ACTS: frozenset[type[Command]] = frozenset(spec.command for spec in CATALOG if spec.acts is not None)
"""What they have done is written down, with who did it."""
SLICED: frozenset[type[Command]] = frozenset(spec.command for spec in CATALOG if spec.sliced)
"""The runtime does them in slices, each a command of the same kind with a smaller limit, and a commit of its own."""

LISTS: frozenset[type[Command]] = frozenset(spec.command for spec in CATALOG if spec.settled_by == "everything")
"""They show many jobs, and are answered from memory while the disk takes no commit."""

LOOKS: frozenset[type[Command]] = frozenset(
    spec.command for spec in CATALOG
    if spec.sliced or (spec.does is Does.READS and spec.role is Role.READ and spec.settled_by != "job")
)  # fmt: skip
"""They look at many jobs, some of them by what is committed: whoever sends one finds what was done before it."""

AWAITS: frozenset[type[Command]] = frozenset(spec.command for spec in CATALOG if spec.waits)
"""They can wait for the end of a job."""

REVIVES: dict[type[Command], Role] = {
    spec.command: spec.revives_role for spec in CATALOG if spec.revives_role is not None
}
"""They may let a dead letter wait again; who needs them for that."""

assert REVIVES.keys() <= ACTS, "who has sent it is known of acts only"
assert len(COMMANDS) == len(SPECS) == len(CATALOG), "a tag or a command is there twice"
