"""What schemathesis must know beyond the description: loaded by name through SCHEMATHESIS_HOOKS.

Waiting pulls are cut short, since a test does not wait a minute for nothing. And a valid request may still
meet a state that forbids it, which no schema can say: only such a refusal is accepted, by its text.
"""

import re
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET

from bunqueue_trio.protocol.catalog import CATALOG

POLL_MAX_MS = 20

TEXTS = sorted({fault.message for spec in CATALOG for fault in spec.refuses})
FORBIDDEN_BY_STATE = re.compile(
    r"(?:jobs\[\d+\]: )?(?:" + "|".join(re.escape(text).replace(r"\{\}", ".*") for text in TEXTS) + ")"
    "|(?:tokens|results) must be as long as ids",
    re.DOTALL,
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    waits = case.path.endswith(("/wait", "/result"))
    for values in (case.query, case.body):
        timeout = values.get("timeout") if isinstance(values, dict) else None
        if POLL_MAX_MS < _number(timeout) <= (600_000 if waits else 60_000):
            values["timeout"] = POLL_MAX_MS
    if case.path.endswith("/wait"):
        if isinstance(case.body, dict):
            if case.body.get("timeout") is None:
                case.body["timeout"] = POLL_MAX_MS
        elif case.body is None or case.body is NOT_SET:  # its own time is half a minute
            case.body = {"timeout": POLL_MAX_MS}


def _number(value: object) -> float:
    """Return the number that a query, in which all is text, or a body says; 0 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return float(value)
    except ValueError:
        return 0


@schemathesis.check
def valid_data_is_refused_only_by_state(context: Any, response: Any, case: Any) -> None:
    meta = case.meta
    if response.status_code == 400 and meta is not None and meta.generation.mode.is_positive:
        error = response.json()["error"]
        assert FORBIDDEN_BY_STATE.fullmatch(error), f"a valid request was refused: {error}"
