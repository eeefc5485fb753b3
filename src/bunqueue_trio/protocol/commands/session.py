"""Commands that a connection or the runtime answers without the engine."""

from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Name, Names
from bunqueue_trio.protocol.commands.spec import Again, Does, Path, Role, Spec
from bunqueue_trio.protocol.server_replies import StorageReply


class Ping(Command[r.DataReply], kw_only=True, tag="Ping"):
    """Ask whether the server answers."""


class Stats(Command[r.StatsReply], kw_only=True, tag="Stats"):
    """Read the server's statistics."""


class StorageStatus(Command[StorageReply], kw_only=True, tag="StorageStatus"):
    """Read what the disk holds, how long there is room, and whether it takes changes."""


class StopPull(Command[r.StopReply], kw_only=True, tag="StopPull"):
    """Take back the waiting pull of the same ``reqId``."""


class Auth(Command[r.DataReply], kw_only=True, tag="Auth"):
    """Authenticate a connection."""

    token: Name


class Subscribe(Command[r.SubscribedReply], kw_only=True, tag="Subscribe"):
    """Choose the events this connection gets: names, or ``*`` for all.

    With ``own`` false, ``completed`` and ``failed`` do not come for what it reports itself: the answer to that says it already.
    """

    events: Names | Name
    own: bool = True


class Unsubscribe(Command[r.SubscribedReply], kw_only=True, tag="Unsubscribe"):
    """Stop some events on this connection: names, or ``*`` (the default) for all."""

    events: Names | Name = "*"


SessionCommand = Ping | Stats | StorageStatus | StopPull | Auth | Subscribe | Unsubscribe
"""All of them, for the one place that tells them apart."""

SPECS: tuple[Spec, ...] = (
    Spec(Ping, Does.SESSION, Path("GET", "/ping"), again=Again.FREELY, role=Role.READ),
    Spec(Stats, Does.SESSION, Path("GET", "/stats"), again=Again.FREELY, role=Role.READ),
    Spec(StorageStatus, Does.SESSION, Path("GET", "/storage"), again=Again.FREELY, role=Role.READ),
    Spec(StopPull, Does.SESSION),
    Spec(Auth, Does.SESSION, role=Role.READ),
    Spec(Subscribe, Does.SESSION, role=Role.READ),
    Spec(Unsubscribe, Does.SESSION, role=Role.READ),
)
