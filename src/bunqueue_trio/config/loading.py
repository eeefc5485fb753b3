"""Where settings come from: flags, then the environment, then a TOML file. A value that is not understood stops the start."""

import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bunqueue_trio.config.names import near_misses, suggestion
from bunqueue_trio.config.settings import Settings
from bunqueue_trio.config.spelling import (
    NO_LIMIT,
    is_unlimited,
    parse_bind,
    parse_bool,
    parse_bytes,
    parse_duration_ms,
    parse_whole,
)
from bunqueue_trio.config.tokens import read_tokens
from bunqueue_trio.errors import StartupError, reason_of

_ALIASES = {
    "warn": "warning", "err": "error", "fatal": "critical", "trace": "debug",
    "text": "human", "plain": "human", "console": "human", "pretty": "human",
}  # fmt: skip
_QUOTES = ("'", '"')
# A client takes 256 MiB in one message (`client/connection.py`); the rest is for what is around a payload.
_RECEIVED_MAX = 256 * 10**6
# The places of a value, the strongest first, as a warning has it.
_WIN = ("flags win", "the environment wins over a file")
_NOWHERE = 3


@dataclass(frozen=True)
class Loaded:
    """Settings with the place each value comes from: ``default``, ``NAME``, a file, or ``--flag``; and what is odd."""

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load(environ: Mapping[str, str], *, file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Return the settings in force; flags override the environment, the environment the file. Empty is not set.

    Raises:
        StartupError: naming the setting and its value, or what is wrong with the file.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    places: dict[str, int] = {}
    from_file = _read_file(file) if file is not None else {}
    for f in fields(Settings):
        name, env, flag = f.name, f.metadata["env"], "--" + f.name.replace("_", "-")
        candidates = (
            ((flags or {}).get(name), flag), (environ.get(env), env), (from_file.get(name), f"{name} in {file}"),
        )  # fmt: skip
        sources[name] = "default"
        for place, (raw, source) in enumerate(candidates):
            if not _is_empty(raw, f):
                values[name], sources[name], places[name] = _parse(f, raw, source), source, place
                break
    warnings = near_misses(environ, (f.metadata["env"] for f in fields(Settings)))
    if "store" in values and sources["data_path"] == "--data-path":
        if sources["store"] == "--store":
            raise StartupError("--store and --data-path exclude each other: a queue is in a database or in a file")
        warnings.append(f"{sources['store']} is not used: --data-path names a file, and flags win")
        del values["store"]
        sources["store"] = "default"
    stronger = [
        name for name in instead_of_bind(values.get("bind", ())) if places.get(name, _NOWHERE) < places.get("bind", 0)
    ]
    if stronger:
        warnings.append(
            f"{sources['bind']} is not used: {sources[stronger[0]]} says where to listen, and {_WIN[places[stronger[0]]]}"
        )
        del values["bind"]
        sources["bind"] = "default"
    settings = Settings(**values)
    for pair in (("tls_cert_file", "tls_key_file"), ("link_tls_cert_file", "link_tls_key_file")):
        given, missing = sorted(pair, key=lambda name: getattr(settings, name) is None)
        if getattr(settings, given) is not None and getattr(settings, missing) is None:
            raise StartupError(f"{sources[given]}={getattr(settings, given)!r}: {missing.upper()} is needed as well")
    if settings.auth_tokens_file is not None:
        more = read_tokens(settings.auth_tokens_file, sources["auth_tokens_file"], settings.auth_tokens)
        settings = replace(settings, auth_tokens=tuple(dict.fromkeys((*settings.auth_tokens, *more))))
    warnings += _oddities(settings)
    return Loaded(settings, sources, tuple(warnings))


def instead_of_bind(bind: Sequence[str]) -> tuple[str, ...]:
    """Return the settings that ``bind`` stands instead of: a host alone in it still needs the port."""
    needs_port = any(parse_bind(each, 0) != parse_bind(each, 1) for each in bind)
    return ("host",) if needs_port else ("http_port", "host")


def _is_empty(raw: Any, f: "Field[Any]") -> bool:
    # Blanks are not nothing where nothing means that everybody may come in.
    return raw is None or (isinstance(raw, str) and (raw == "" if f.metadata["secret"] else not raw.strip()))


def _read_file(file: Path) -> dict[str, Any]:
    """Return the values of a file by the name of their setting."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"{file}: cannot be read: {reason_of(error)}") from None
    known = {each: f.name for f in fields(Settings) for each in (f.name, f.metadata["env"], f.metadata["old"])}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = known.get(key) or known.get(key.replace("-", "_"))
        if isinstance(value, dict):
            raise StartupError(f"{file}: [{key}] is a section; settings stand at the top of the file, without sections")
        if name is None:
            raise StartupError(f"{file}: unknown setting {key!r}{suggestion(key, (f.name for f in fields(Settings)))}")
        if name in found:
            raise StartupError(f"{file}: {name} is set twice, once as {key!r}")
        found[name] = value
    return found


def _oddities(settings: Settings) -> list[str]:
    found = []
    if settings.body_max_bytes > settings.buffers_max_bytes:
        found.append("BODY_MAX_BYTES is more than BUFFERS_MAX_BYTES: the largest bodies never fit")
    elif settings.body_max_bytes > _RECEIVED_MAX:
        found.append(
            "BODY_MAX_BYTES is more than 256 MB, and clients in Python take no larger message: none of them can get such a job"
        )
    if any(token[:1] in _QUOTES or token[-1:] in _QUOTES for token in settings.auth_tokens):
        found.append("a token of AUTH_TOKENS begins or ends with a quote, which clients must send too")
    if any(" " in token for token in settings.auth_tokens):
        found.append("a token of AUTH_TOKENS has a blank in it; commas separate tokens")
    for name in ("auth_tokens_file", "tls_key_file", "link_tls_key_file"):
        path = getattr(settings, name)
        try:
            mode = 0 if path is None else Path(path).stat().st_mode
        except OSError:
            # Whoever reads it will say so.
            mode = 0
        if mode & stat.S_IROTH:
            found.append(f"{name.upper()}={path!r} may be read by everybody on this machine")
    return found


def _parse(f: "Field[Any]", raw: Any, source: str) -> Any:
    """Return the value of setting ``f`` written as ``raw`` (text, or a typed value from TOML)."""
    meta, kind = f.metadata, f.type
    try:
        if kind is bool:
            return raw if isinstance(raw, bool) else parse_bool(str(raw))
        if kind == tuple[str, ...]:
            return _parse_items(raw, meta)
        if kind is str or kind == str | None:
            return _parse_text(raw, meta)
        return _parse_number(f, raw)
    except ValueError as error:
        shown = "…" if meta["secret"] else repr(raw)
        raise StartupError(f"{source}={shown}: {error}") from None


def _parse_items(raw: Any, meta: Mapping[str, Any]) -> tuple[str, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    # A switch that is on would be a token that anybody can guess.
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a string, or a list of strings")
    items = [part.strip() for part in parts if part.strip()]
    if not items and not isinstance(raw, list):
        raise ValueError("has nothing in it; leave it empty for none")
    if meta["each"] is None:
        return tuple(items)
    # Checked, and in its own form where it has one that is text.
    parsed = [meta["each"](item) for item in items]
    return tuple(text if isinstance(text, str) else item for text, item in zip(parsed, items, strict=True))


def _parse_text(raw: Any, meta: Mapping[str, Any]) -> str:
    if not isinstance(raw, str):
        raise ValueError("must be a string")
    if "\0" in raw:
        raise ValueError("must not have a NUL in it")
    if meta["choices"]:
        lowered = raw.strip().lower()
        raw = lowered if lowered in meta["choices"] else _ALIASES.get(lowered, raw)
        if raw not in meta["choices"]:
            raise ValueError("must be one of " + ", ".join(meta["choices"]))
    return str(meta["each"](raw.strip())) if meta["each"] is not None else raw


def _parse_number(f: "Field[Any]", raw: Any) -> int | None:
    meta, text = f.metadata, str(raw)
    optional = f.type == int | None
    if isinstance(raw, bool) or (isinstance(raw, float) and not raw.is_integer() and not f.name.endswith("_ms")):
        raise ValueError("must be an integer")
    if is_unlimited(text) and (optional or meta["unlimited"] is not None):
        return None if optional else int(meta["unlimited"])
    if is_unlimited(text) and text.strip() != "-1" and meta["high"] is not None:
        raise ValueError(f"has a limit: at most {meta['high']}" + (f": {meta['breaks']}" if meta["breaks"] else ""))
    parse = parse_duration_ms if f.name.endswith("_ms") else parse_bytes if f.name.endswith("_bytes") else parse_whole
    try:
        value = parse(str(int(raw)) if isinstance(raw, float) and raw.is_integer() else text)
    except ValueError as error:
        if not optional and meta["unlimited"] is None:
            raise
        raise ValueError(f"{error}; Infinity is no limit") from None
    if value == 0 and meta["zero_is_unlimited"]:
        return None
    low, high = meta["low"], meta["high"]
    if high is None and value > NO_LIMIT and not optional:
        # As good as none, and safe to count with.
        value = NO_LIMIT
    if value < low or (high is not None and value > high):
        between = f"must be at least {low}" if meta["high"] is None else f"must be between {low} and {high}"
        reason = f": {meta['breaks']}" if meta["breaks"] else ""
        or_none = "; Infinity is no limit" if optional or meta["unlimited"] is not None else ""
        raise ValueError(between + reason + or_none)
    return value
