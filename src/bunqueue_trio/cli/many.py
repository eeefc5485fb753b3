"""What commands about many jobs share: the flags of a filter, and an act that is tried dry, asked about, done and told of."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import click

from bunqueue_trio.cli.remote import DURATION, answer, say
from bunqueue_trio.cli.slips import refuse_unknown
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, done_to
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import ActReply, ListedJob

STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
# Jobs in one request: about a second at most, so that the bar moves.
ACT_MAX = 1000

_ALSO_CALLED = {
    "dead": "failed", "died": "failed", "dlq": "failed", "dead-letter": "failed", "dead-letters": "failed", "queued": "waiting",
    "ready": "waiting", "processing": "active", "running": "active", "scheduled": "delayed", "done": "completed",
}  # fmt: skip
"""What a state is called elsewhere → what it is called as a state of a job."""


_ASKED = {"priority": "change"}
"""What is done → what it is called where somebody is asked about it, if that is something else."""


class State(click.Choice[str]):
    """A state of a job; who says another word for one hears which it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the state."""
        called = _ALSO_CALLED.get(str(value).lower(), "")
        if called in self.choices and value not in self.choices:
            self.fail(f"{called!r} is what {str(value).lower()!r} is called here", param, ctx)
        return super().convert(value, param, ctx)


_WHERE = (
    click.option("--queue", "queue", multiple=True, metavar="QUEUE", help="Only of this queue; may be repeated."),
    click.option("--state", "state", multiple=True, type=State(STATES), metavar="STATE", help="Only in this state; may be repeated."),
)  # fmt: skip
_WHICH = (
    click.option("--tag", metavar="TAG", help="Only with this tag."),
    click.option("--group-id", metavar="TEXT", help="Only whose groupId is this, as it was pushed."),
    click.option("--id-prefix", metavar="TEXT", help="Only whose id begins so."),
    click.option("--group", "fingerprint", metavar="GROUP", help="Only whose last error is in this group of errors, as `dead --groups` names it."),
    click.option("--error", metavar="TEXT", help="Only whose last error has this text in it."),
    click.option("--text", metavar="TEXT", help="Only with this text in the payload, as it was sent."),
    click.option("--older", type=DURATION, metavar="TIME", help="Only pushed, or ended, at least this long ago: 10m, 2h, 7d."),
    click.option("--newer", type=DURATION, metavar="TIME", help="Only pushed, or ended, at most this long ago."),
    click.option("--attempts", type=click.IntRange(min=0), metavar="N", help="Only that have failed at least N times."),
)  # fmt: skip
_OWNER = click.option("--owner", metavar="ID", help="Only that this worker (id or name) has, or this connection holds.")
rate_option = click.option(
    "--rate", type=click.IntRange(1, 1_000_000), metavar="N", help="At most N jobs a second, so that workers keep up.",
)  # fmt: skip
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most N of them: a retry takes those first that died first, else the newest come first.",
)  # fmt: skip
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")
dry_option = click.option("--dry-run", is_flag=True, help="Change nothing; say what would happen.")


def _with(options: tuple[Callable[..., Any], ...], names: tuple[str, ...]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def filtered(*arguments: Any, **values: Any) -> Any:
            said = {_camel(name): values.pop(name) for name in names}
            wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
            refuse_no_time(said["older"], said["newer"])
            return command(*arguments, wanted={k: v for k, v in wanted.items() if v not in (None, [])}, **values)

        decorated: Callable[..., Any] = filtered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


_NAMES = ("tag", "group_id", "id_prefix", "fingerprint", "error", "text", "older", "newer", "attempts")
with_filter = _with((*_WHERE, *_WHICH, _OWNER), ("queue", "state", *_NAMES, "owner"))
"""Add the flags of a filter; the command gets it as ``wanted``."""
with_dead_filter = _with(_WHICH, _NAMES)
"""The same for dead letters, whose queue is an argument."""


def refuse_no_time(older: int | None, newer: int | None) -> None:
    """Raise ``UsageError`` where nothing can be both so old and so new."""
    if older is not None and newer is not None and older > newer:
        raise click.UsageError("nothing is both that old and that new: --older must be less than --newer")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def confirm(what: str, *, yes: bool) -> None:
    """Go on if that is wanted."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(printable(f"{what}: there is nobody to ask; say --yes"))
    click.confirm(printable(f"{what}?"), abort=True, err=True)


def rated(rate: int | None, limit: int | None = None) -> dict[str, int]:
    """Return the fields of an act that say its rate, and how many jobs at most."""
    return ({} if rate is None else {"rate": rate}) | ({} if limit is None else {"limit": limit})


class Sum:
    """What the answers to one act came to."""

    def __init__(self) -> None:
        self.count: int = 0
        self.ending: int = 0
        self.refused: dict[str, int] = {}
        self.examples: list[ListedJob] = []

    def add(self, reply: ActReply) -> None:
        """Count one answer more."""
        self.count += reply.count
        self.ending += reply.ending
        for code, n in reply.refused.items():
            self.refused[code] = self.refused.get(code, 0) + n
        self.examples = (self.examples + reply.examples)[:3]

    def told(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Return it as a program reads it."""
        said = {"count": self.count, "ending": self.ending, "refused": self.refused}
        return said | ({"dryRun": True, "examples": self.examples} if dry_run else {})

    def show(self) -> None:
        """Show the examples, beside the output, which a program may read."""
        for job in self.examples:
            click.echo(printable(f"{job.id}  {job.queue}  {job.state}  {job.error or ''}".rstrip()), err=True)

    def done(self, done: str, *, would: bool = False) -> str:
        """Return to how many it was ``done``, or would be; those that their workers end are another matter."""
        return f"{done_to(self.count, self.ending, done, would=would)}{self.why_not}"

    @property
    def why_not(self) -> str:
        """What forbade it to the others, in brackets."""
        told = ", ".join(f"{code}: {n:,}" for code, n in sorted(self.refused.items()))
        # The flag is refused for a command that has none.
        forced = "; --force takes active ones, too" if c.IS_ACTIVE.code in self.refused and _has_force() else ""
        return f" (not {told}{forced})" if told else ""


def _has_force() -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and any(param.name == "force" for param in ctx.command.params)


def try_act(url: str, token: str | None, wanted: dict[str, Any], action: str, **how: Any) -> Sum:
    """Return what an act would do."""
    tried, how = Sum(), {name: value for name, value in how.items() if name != "rate"}
    for reply in _replies(url, token, {"filter": wanted, "action": action, "dryRun": True} | how):
        tried.add(reply)
    return tried


def refuse_unknown_group(wanted: dict[str, Any], tried: Sum) -> None:
    """Raise ``ClickException`` when a group of errors is named and nothing is in it: a slip must not look like an empty one."""
    if "fingerprint" in wanted and not tried.count and not tried.refused:
        raise click.ClickException(
            printable(
                f"no job that this is about has an error of the group {wanted['fingerprint']}; `dead --groups` lists the groups"
            )
        )


def act(url: str, token: str | None, wanted: dict[str, Any], action: str, total: int, done: str, **how: Any) -> Sum:
    """Do it to all that are found, or ``limit`` of them, with a bar on a terminal; return what came of it.

    Raises:
        ClickException: a step went wrong; it says to how many it was ``done`` before.
    """
    did = Sum()
    body = {"filter": wanted, "action": action} | how
    with click.progressbar(length=total, label=done, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        try:
            for reply in _replies(url, token, body):
                did.add(reply)
                bar.update(reply.count)
        except click.ClickException as gone:
            if not did.count:
                raise
            raise click.ClickException(f"{gone.message}; {did.count:,} were {done} before") from None
    return did


def _replies(url: str, token: str | None, body: dict[str, Any]) -> Iterator[ActReply]:
    """Yield the answers to an act, page by page, until none is left or ``limit`` were looked at."""
    left = body.get("limit")
    most = 10 * ACT_MAX if "dryRun" in body else ACT_MAX
    while True:
        request = body | {"limit": most if left is None else min(most, left)}
        reply = answer(url, token, c.ActOnJobs, **request)
        yield reply
        if left is not None:
            left -= reply.count + sum(reply.refused.values())
        if reply.next is None or (left is not None and left <= 0):
            return
        body = body | {"after": reply.next}


def act_on_many(
    url: str, token: str | None, wanted: dict[str, Any], action: str, done: str, *, yes: bool, dry_run: bool,
    as_json: bool, **how: Any,
) -> None:  # fmt: skip
    """Try it dry, show what it would be done to, ask, do it, and say to how many it was."""
    refuse_unknown(url, token, *wanted.get("queue", ()))
    tried = try_act(url, token, wanted, action, **how)
    refuse_unknown_group(wanted, tried)
    if not tried.count:
        say(tried.done(done), tried.told(dry_run=dry_run), as_json=as_json)
        return
    if dry_run:
        say(tried.done(done, would=True), tried.told(dry_run=True), as_json=as_json)
    if not (yes or as_json):
        tried.show()
    if dry_run:
        return
    more = tried.count - len(tried.examples)
    those = f"{count(tried.count, 'job')}{f', these and {more:,} more' if more > 0 else ''}"
    confirm(f"{_ASKED.get(action, action)} {those}", yes=yes)
    did = act(url, token, wanted, action, tried.count, done, **how)
    say(did.done(done), did.told(), as_json=as_json)
