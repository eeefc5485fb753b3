"""How people write one value: times with units, sizes, switches, addresses, origins. What is wrong is a ValueError."""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bunqueue_trio.errors import StartupError, reaching_files

# Bytes of a socket's path: the kernel's sun_path without its end.
UNIX_PATH_MAX = 107
DEFAULT_PORT = 6790
# Beyond all that is counted here: ms until the year 33,000, and exact as a number of JSON.
NO_LIMIT = 10**15

_YES = frozenset({"1", "true", "t", "yes", "y", "on", "enabled", "enable"})
_NO = frozenset({"0", "false", "f", "no", "n", "off", "disabled", "disable"})
_UNLIMITED = frozenset({"infinity", "inf", "unlimited", "off", "none", "no", "-1"})
_WHOLE = re.compile(r"-?[0-9]+(?:_[0-9]+)*(?:[eE]\+?[0-9]{1,2})?", re.ASCII)
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", re.ASCII)
_UNITS_MS = {
    "ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000,
}  # fmt: skip
# K, M and G alone are binary, as systemd, nginx and Docker read them; KB, MB and GB decimal, as SI says.
_UNITS_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 2**10, "m": 2**20, "g": 2**30,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_ORIGIN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


class Bind(NamedTuple):
    """One place to listen: a TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        """Return it as it is written in BIND."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.path is not None or self.host == "::1" or self.host == "localhost" or self.host.startswith("127.")


def parse_bind(text: str, port: int = DEFAULT_PORT) -> Bind:
    """Return the place that ``host:port``, ``[v6]:port``, ``:port``, ``port``, ``host`` or ``unix:/path`` names.

    ``port`` is that of a host alone.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if text.startswith(("unix:", "/")):
        path = re.sub("^//+", "/", text.removeprefix("unix:"))
        if not path.startswith("/") or len(path.encode("utf-8", "surrogateescape")) > UNIX_PATH_MAX or "\0" in path:
            raise ValueError(f"{text!r} needs an absolute path of at most {UNIX_PATH_MAX} bytes")
        return Bind(path=path)
    if "://" in text:
        raise ValueError(f"{text!r} is a URL; an address is written as host:port or unix:/path")
    if text.isascii() and text.isdigit():
        return Bind(_any(""), _port(text, text))
    host, colon, port_text = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, colon, port_text = text, "", ""
    elif not colon:
        host = text
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} needs brackets around an IPv6 address")
    if not text or not host.isprintable() or any(c in host for c in " /@,"):
        raise ValueError(f"{text!r} is not host:port nor unix:/path")
    return Bind(_any(host), _port(port_text, text) if colon else port)


def parse_link(text: str) -> str:
    """Return the place where the link is to listen, or ``none``.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if text.lower() == "none":
        return "none"
    bind = parse_bind(text, 0)
    if bind.path is not None:
        raise ValueError(f"{text!r} is no host:port, which other machines can reach")
    return str(bind)


def parse_host(text: str) -> str:
    """Return the one address or name to listen at, without a port."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    is_v6 = host.count(":") >= 2
    if "," in host or "://" in host or "/" in host or (":" in host and not is_v6):
        raise ValueError("must be one address or name without a port; BIND takes host:port, several, and unix:/path")
    if not host.isprintable() or any(c in host for c in " []"):
        raise ValueError("must be an address or a name; BIND takes [v6]:port")
    return _any(host)


def _any(host: str) -> str:
    return "0.0.0.0" if host in {"", "*"} else host  # noqa: S104 - asked for


def _port(digits: str, text: str) -> int:
    if not digits.isascii() or not digits.isdigit() or int(digits[:6]) > 65535:
        raise ValueError(f"{text!r} is not host:port with a port up to 65535, nor unix:/path")
    return int(digits)


def parse_bool(text: str) -> bool:
    """Return whether ``text`` says yes."""
    lowered = text.strip().lower()
    if lowered not in _YES | _NO:
        raise ValueError("must be true or false")
    return lowered in _YES


def is_unlimited(text: str) -> bool:
    """Return whether ``text`` is a word for no limit at all."""
    return text.strip().lower() in _UNLIMITED


def parse_whole(text: str) -> int:
    """Return the whole number: ``1000``, ``1_000`` or ``1e3``."""
    text = text.strip()
    if len(text) > 25 or _WHOLE.fullmatch(text) is None:
        if text.lower().startswith(("tcp://", "udp://")):
            raise ValueError(
                "must be an integer; Kubernetes sets this for a service of that name: give the service another name, "
                "or its pods enableServiceLinks: false"
            )
        raise ValueError("must be an integer")
    return int(Decimal(text.replace("_", "")))


def parse_duration_ms(text: str) -> int:
    """Return the ms of ``5m``, ``1.5h``, ``1h30m``, ``500ms``, or of a number of ms alone, rounded up."""
    return _with_units(text, _UNITS_MS, "must be a time, such as 500ms, 10s, 5m, 1.5h, 30d or a number of ms")


def parse_typed_ms(text: str) -> int:
    """Return the same of what somebody types: a number alone, which may be meant as seconds, only where it is 0."""
    ms = _with_units(text, _UNITS_MS, "must be a time, such as 500ms, 10s, 5m, 1.5h or 30d")
    text = text.strip()
    if ms and not text[-1].isalpha():
        raise ValueError(f"needs a unit: {text[:20]}ms or {text[:20]}s?")
    return ms


def parse_bytes(text: str) -> int:
    """Return the bytes of ``10MB`` (10⁷), ``10MiB`` or ``10M`` (10 × 2²⁰), or of a number of bytes alone."""
    return _with_units(text, _UNITS_BYTES, "must be a size, such as 512KiB, 10MB, 10MiB or a number of bytes")


def _with_units(text: str, units: Mapping[str, int], complaint: str) -> int:
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return parse_whole(text)
    total, place = Decimal(0), 0
    while place < len(text):
        found = _PART.match(text, place)
        unit = found[2].lower() if found else ""
        if found is None or (unit not in units and (unit or found.span() != (0, len(text)))):
            raise ValueError(complaint)
        total += Decimal(found[1]) * units.get(unit, 1)
        place = found.end()
    if not text or total >= NO_LIMIT:
        raise ValueError(complaint)
    return int(total.to_integral_value(ROUND_CEILING))


def parse_origin(text: str) -> str:
    """Return the origin as browsers send it, or ``*``."""
    if text in {"*", "null"}:
        return text
    scheme, separator, rest = text.partition("://")
    if "*" in text:
        raise ValueError(f"{text!r}: browsers know no patterns; name each origin, or * for all")
    if not text.isprintable() or " " in text or ";" in text:
        raise ValueError(f"{text!r}: origins are separated by commas")
    if text.lower() in _UNLIMITED:
        raise ValueError(f"{text!r} is no origin; leave it empty for none, or say * for all")
    if not separator or not _ORIGIN_SCHEME.fullmatch(scheme.lower()):
        raise ValueError(f"{text!r} is no origin; it begins with https:// or http://, as in https://{rest or text}")
    rest = rest.rstrip("/").lower()
    parts = urlsplit(f"//{rest}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} has a port that cannot be") from None
    if not parts.hostname or parts.path or parts.query or parts.fragment or "@" in rest:
        raise ValueError(f"{text!r} is no origin; it is scheme://host or scheme://host:port and no more")
    usual = {"http": 80, "https": 443}.get(scheme.lower())
    host = rest.removesuffix(f":{port}") if port is not None and port == usual else rest
    return f"{scheme.lower()}://{host}"


def parse_token(text: str) -> str:
    """Return the bearer token."""
    if not text.isprintable() or not text.isascii():
        raise ValueError("a token has a character that not every client can send; ASCII without control characters can")
    return text


def parse_directory(text: str) -> str:
    """Return the path of a directory that answers name."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has bytes that are no UTF-8, and answers name it") from None
    return text


def parse_store(text: str) -> str:
    """Return the URL of a database that holds a queue."""
    if not text.startswith(("postgres://", "postgresql://")):
        raise ValueError("must be a URL such as postgres://user@host/database; a file is named by DATA_PATH")
    return text


def without_password(url: str) -> str:
    """Return the URL of a database as it may be shown."""
    scheme, _, rest = url.partition("://")
    where, at, behind = rest.rpartition("@")
    # Up to the last @ all may be of a password in which / ? or # was not escaped; an @ behind a place without one may be of a word.
    if at and ":" not in re.split("[/?#]", where, maxsplit=1)[0] and re.search("[/?#]", where):
        where, at, behind = "", "", rest
    path, _, query = behind.partition("?")
    words = "&".join(word for word in query.split("&") if "password" not in unquote(word.partition("=")[0]))
    return f"{scheme}://{where.partition(':')[0]}{at}{path}{'?' if words else ''}{words}"


def check_data_path(text: str) -> Path:
    """Return the file that DATA_PATH names, which need not be there yet.

    Raises:
        StartupError: it is hardly what was meant; says what to write instead.
    """
    path = Path(text)
    with reaching_files(f"DATA_PATH={text!r}"):
        if text == ":memory:":
            reason = "there is no store in memory; write the path of a file, such as bunqueue.db"
        elif text.startswith("file:"):
            reason = "is no place for a URI; write the path alone, such as /var/lib/bunqueue/queue.db"
        elif text.startswith("~"):
            reason = f"~ is not expanded; write the whole path, such as {path.home() / 'queue.db'}"
        elif text.startswith("$"):
            reason = f"variables are not expanded; write the whole path, such as {path.home() / 'queue.db'}"
        elif path.is_dir():
            reason = f"is a directory; write the name of a file in it, such as {path / 'queue.db'}"
        elif path.is_symlink() and not path.exists():
            reason = "is a symbolic link to nothing; make its target or remove it"
        elif not path.parent.is_dir():
            reason = f"there is no directory {path.parent}; make it first"
        else:
            return path
    raise StartupError(f"DATA_PATH={text!r}: {reason}")
