"""Who sent a command, as far as it is known."""

from typing import NamedTuple


class By(NamedTuple):
    """The name of somebody's token, or what stands for it, and their address."""

    who: str = "server"
    address: str = ""


SERVER = By()
"""What has no client."""
