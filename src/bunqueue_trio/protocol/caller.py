"""Who sent a command, as far as it is known."""

from typing import NamedTuple

from bunqueue_trio.protocol.commands.spec import Role


class By(NamedTuple):
    """The name of somebody's token, or what stands for it, and their address."""

    who: str = "server"
    address: str = ""
    role: Role = Role.ADMIN
    """What the token allows."""
    by_hand: bool = False
    """Somebody has pressed a button: what they do is an act, also where programs do the same all the time."""


SERVER = By()
"""What has no client."""
