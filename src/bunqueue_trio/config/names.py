"""Names that are nearly ours: slips of the pen, and what the original and other programs call the same thing."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

FOREIGN = {
    "PORT": "HTTP_PORT", "TCP_PORT": "HTTP_PORT", "BUNQUEUE_HTTP_PORT": "HTTP_PORT", "BUNQUEUE_PORT": "HTTP_PORT",
    "BUNQUEUE_HOST": "HOST", "BIND_ADDRESS": "BIND", "LISTEN": "BIND", "HTTP_SOCKET_PATH": "BIND",
    "BUNQUEUE_DATA_PATH": "DATA_PATH", "BQ_DATA_PATH": "DATA_PATH", "SQLITE_PATH": "DATA_PATH", "DB_PATH": "DATA_PATH",
    "AUTH_TOKEN": "AUTH_TOKENS", "BUNQUEUE_AUTH_TOKENS": "AUTH_TOKENS", "BUNQUEUE_AUTH_TOKEN": "AUTH_TOKENS",
    "AUTH_TOKEN_FILE": "AUTH_TOKENS_FILE",
    "MAX_COMPLETED_JOBS": "RETENTION_COMPLETED_MAX", "MAX_JOB_RESULTS": "RETENTION_COMPLETED_MAX",
    "SHUTDOWN_TIMEOUT_MS": "SHUTDOWN_GRACE_MS", "SHUTDOWN_TIMEOUT": "SHUTDOWN_GRACE_MS",
    "CORS_ORIGIN": "CORS_ALLOW_ORIGIN", "CORS_ORIGINS": "CORS_ALLOW_ORIGIN", "CORS_ALLOWED_ORIGINS": "CORS_ALLOW_ORIGIN",
    "RATE_LIMIT_MAX": "RATE_LIMIT_MAX_REQUESTS", "RATE_LIMIT_WINDOW": "RATE_LIMIT_WINDOW_MS",
    "TLS_CERT": "TLS_CERT_FILE", "TLS_KEY": "TLS_KEY_FILE", "BUNQUEUE_LOG_LEVEL": "LOG_LEVEL",
    "BUNQUEUE_LOG_FORMAT": "LOG_FORMAT", "METRICS_TOKEN": "METRICS_AUTH",
    "BUNQUEUE_STORE": "STORE", "POSTGRES_URL": "STORE", "BUNQUEUE_POSTGRES_URL": "STORE",
}  # fmt: skip
"""What is not read here, and the setting that does the same."""

# One letter from ours, and other programs' own.
_USUAL = frozenset({"HTTPS_PORT"})
# Shorter names are near to too many others.
_SHORT = 7


def near_misses(environ: Mapping[str, str], ours: Iterable[str]) -> list[str]:
    """Return a line for each variable that somebody meant for us and that is not read."""
    ours = set(ours)
    found = []
    for name in sorted(environ.keys() - ours - _USUAL):
        if not environ[name]:
            continue
        if name in FOREIGN:
            found.append(f"{name} is not read here, the setting is called {FOREIGN[name]}")
        else:
            found += [
                f"{name} is not read, did you mean {own}?"
                for own in sorted(ours)
                if len(own) >= _SHORT and _is_one_slip(name, own)
            ]
    if environ.get("BUNQUEUE_TOKEN") and not (environ.get("AUTH_TOKENS") or environ.get("AUTH_TOKENS_FILE")):
        found.append("BUNQUEUE_TOKEN is what clients send; what the server asks for is AUTH_TOKENS")
    return found


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the words that lead from a wrong name to a right one, if there is one."""
    foreign = FOREIGN.get(name.upper())
    near = get_close_matches(name.lower().replace("-", "_"), sorted(known), n=1)
    meant = foreign.lower() if foreign else near[0] if near else ""
    return f", did you mean {meant!r}?" if meant else ""


def _is_one_slip(name: str, own: str) -> bool:
    """Return whether one letter is missing, too much, wrong, or two have changed places."""
    if abs(len(name) - len(own)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(name, own, strict=False)) if a != b), min(len(name), len(own)))
    left, right = name[start:], own[start:]
    swapped = left[1:2] + left[:1] + left[2:]
    return left[1:] == right[1:] or left == right[1:] or left[1:] == right or swapped == right
