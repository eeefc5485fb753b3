"""The file of bearer tokens: one a line, bare, or behind the name and the role of who has it. No message shows one."""

import re
from collections.abc import Iterable
from pathlib import Path

from bunqueue_trio.config.spelling import parse_token
from bunqueue_trio.errors import StartupError

ROLES = ("read", "work", "admin")
"""What a token may be limited to; each may do all that those before it may."""

# It begins with a letter, so that it cannot be taken for an address.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")


class NamedToken(str):
    """A token whose bearer has a name, and may do what the role allows; a plain string may do everything."""

    __slots__ = ("name", "role")
    name: str
    role: str


def read_tokens(path: str, source: str, known: Iterable[str]) -> list[str]:
    """Return the tokens of the file that ``source`` names; ``known`` are there already, and may do everything.

    Raises:
        StartupError: naming the line, and showing nothing of it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise StartupError(f"{source}={path!r}: cannot be read: {reason}") from None
    found: dict[str, str] = {}
    bare = frozenset(known)
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = _parse(line)
            if isinstance(token, NamedToken) and token in bare:
                raise ValueError("this token is in AUTH_TOKENS too, where it may do everything")
            if token in found and _bearer(found[token]) != _bearer(token):
                raise ValueError("this token is there already, with another name or role")
        except ValueError as error:
            raise StartupError(f"{source}={path!r}: line {number}: {error}") from None
        found[token] = token
    if not found:
        raise StartupError(f"{source}={path!r}: has no token in it")
    return list(found.values())


def _parse(line: str) -> str:
    """Return the token of a line.

    Raises:
        ValueError: what the line must be; its words may be secrets.
    """
    words = line.split()
    if len(words) == 1:
        if any(f":{role}:" in words[0] for role in ROLES):
            raise ValueError(
                "is one word, and would be a token that may do everything: name, role and token have blanks between them"
            )
        return parse_token(words[0])
    if len(words) != 3:
        raise ValueError("must be a token, or a name, a role and a token")
    name, role, text = words
    if role not in ROLES:
        raise ValueError("its second word must be a role: read, work or admin")
    if not _NAME.fullmatch(name):
        raise ValueError("its name must begin with a letter and have at most 64 letters, digits and _.@- in it")
    token = NamedToken(parse_token(text))
    token.name, token.role = name, role
    return token


def _bearer(token: str) -> tuple[str, str] | None:
    return (token.name, token.role) if isinstance(token, NamedToken) else None
