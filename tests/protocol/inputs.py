"""Good and bad inputs of every command, as data."""

import json
import math
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as types

from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.commands import Command

DAY = 24 * 3600 * 1000
YEAR = 365 * DAY

COMPLETE: dict[str, dict[str, Any]] = {
    "PUSH": {
        "data": {"to": "é"}, "priority": -3, "delay": 5, "maxAttempts": 4,
        "backoff": {"type": "fixed", "delay": 6, "maxDelay": 7, "jitter": 0.5}, "ttl": 7, "timeout": 8,
        "uniqueKey": "k", "jobId": "j", "tags": ["a", "b"], "groupId": "g", "lifo": True, "removeOnComplete": True,
        "removeOnFail": True, "durable": True, "dependsOn": ["x"], "repeat": {"every": 5, "limit": 2},
        "name": "welcome",
    },
    "PUSHB": {"jobs": [{"data": 1}, {"data": 2, "priority": 5}]},
    "PULL": {"timeout": 5, "lockTtl": 6},
    "PULLB": {"count": 3, "timeout": 5, "lockTtl": 6},
    "ACK": {"token": "t", "result": [1]},
    "ACKB": {"ids": ["a", "b"], "tokens": ["s", "t"], "results": [1, None]},
    "FAIL": {"token": "t", "error": "boom", "unrecoverable": False, "retryIn": 5},
    "FAILB": {"failures": [{"id": "a", "token": "t", "error": "boom", "stack": "in x", "retryIn": 5}, {"id": "b"}]},
    "JobHeartbeat": {"token": "t", "duration": 5},
    "JobHeartbeatB": {"ids": ["a"], "tokens": ["t"]},
    "ExtendLock": {"token": "t", "duration": 5},
    "Release": {"token": "t"},
    "Progress": {"progress": 50, "message": "half", "token": "t"},
    "GetJobs": {"state": "failed", "limit": 5, "after": "t"},
    "Dlq": {"limit": 5, "after": "t"},
    "RetryDlq": {"jobId": "t", "limit": 5, "after": "t"},
    "GetJob": {}, "GetState": {}, "GetResult": {"timeout": 5}, "WaitJob": {"timeout": 5}, "Cancel": {}, "Ping": {}, "Stats": {}, "StorageStatus": {}, "StopPull": {},
    "Auth": {"token": "secret"},
    "Subscribe": {"events": ["completed"]},
    "Unsubscribe": {"events": "*"},
}  # fmt: skip
"""Of each command a body with all of its fields."""


def sample(shape: types.Type) -> Any:
    """Some value that a field of this type takes."""
    match shape:
        case types.Metadata(type=marked):
            return sample(marked)
        case types.UnionType(types=options):
            return sample(next(option for option in options if not isinstance(option, types.NoneType)))
        case types.IntType() | types.FloatType():
            return max(5, shape.ge or 5) if shape.le is None else min(5, shape.le)
        case types.StrType():
            return "t"
        case types.BoolType():
            return True
        case types.LiteralType(values=values):
            return values[0]
        case types.ListType(item_type=item):
            return [sample(item)]
        case types.StructType(cls=kind):
            return complete(kind)
        case _:
            return [1]


def complete(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """A body with all fields of a command, made from their types."""
    of_the_path = ("req_id", "queue", "id") if issubclass(kind, Command) else ()
    fields = [f for f in msgspec.structs.fields(kind) if f.name not in of_the_path]
    return {f.encode_name: told(f) for f in fields}


def told(field: msgspec.structs.FieldInfo) -> Any:
    """Some value of a field that is not what it has anyway."""
    value = sample(types.type_info(field.type))
    if value != field.default:
        return value
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case _:
            return value


COMPLETE |= {name: complete(kind) for name, kind in COMMANDS.items() if name not in COMPLETE}


class Field(NamedTuple):
    """One field of one command, and what it takes."""

    command: str
    name: str
    kind: str
    low: int | None = None
    high: int | None = None
    required: bool = False

    def __str__(self) -> str:
        return f"{self.command}.{self.name}"

    def takes(self, text: str) -> bool:
        value = json.loads(text)
        if value is None:
            return not self.required
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return {
            "integer": number and value == int(value) and self.fits(value),
            "time": number and self.fits(math.ceil(value)),
            "time or object": isinstance(value, dict) or (number and self.fits(math.ceil(value))),
            "kind of backoff": False,
            "anything": True,
            "number": number and self.fits(value),
            "string": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "strings": strings,
            "strings or string": strings or isinstance(value, str),
            "array": isinstance(value, list),
            "objects": value == [{"a": 1}],
            "object": isinstance(value, dict) and "every" in value,
        }[self.kind]

    def fits(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def complaints(self, text: str) -> list[str]:
        """What may be said of a value that is not taken."""
        value = json.loads(text)
        if self.kind in ("integer", "time", "time or object", "number"):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return ["must be a number or an object" if "object" in self.kind else "must be a number"]
            if not self.fits(value):
                return [f"must be at least {self.low}", f"must be at most {self.high}"]
            return ["must be an integer"]
        return {
            "string": ["must be a string"],
            "boolean": ["must be a boolean"],
            "strings": ["must be an array of strings"],
            "strings or string": ["must be an array of strings"],
            "array": ["must be an array"],
            "objects": ["must be an array"],
            "object": ["must be an object"],
            "kind of backoff": ["must be 'exponential' or 'fixed'"],
        }[self.kind]


FIELDS = [
    Field("PUSH", "priority", "integer", -1_000_000, 1_000_000),
    Field("PUSH", "delay", "time", 0, YEAR),
    Field("PUSH", "maxAttempts", "integer", 1, 1000),
    Field("PUSH", "backoff", "time or object", 0, DAY),
    Field("PUSH", "backoff.type", "kind of backoff"),
    Field("PUSH", "backoff.delay", "time", 0, DAY),
    Field("PUSH", "backoff.maxDelay", "time", 0, DAY),
    Field("PUSH", "backoff.jitter", "number", 0, 1),
    Field("PUSH", "ttl", "time", 0, YEAR),
    Field("PUSH", "timeout", "time", 0, DAY),
    Field("PUSH", "repeat.every", "time", 1, YEAR),
    Field("PUSH", "repeat.limit", "integer", 1, 2**53),
    *(Field("PUSH", name, "string") for name in ("uniqueKey", "jobId", "groupId", "name")),
    *(Field("PUSH", name, "boolean") for name in ("lifo", "removeOnComplete", "removeOnFail", "durable")),
    *(Field("PUSH", name, "strings") for name in ("tags", "dependsOn")),
    Field("PULL", "timeout", "time", 0, 60_000),
    Field("PULL", "lockTtl", "time", 1, DAY),
    Field("PULLB", "count", "integer", 1, 1000, required=True),
    Field("PULLB", "timeout", "time", 0, 60_000),
    Field("PULLB", "lockTtl", "time", 1, DAY),
    Field("ACK", "token", "string"),
    Field("ACKB", "ids", "strings", required=True),
    Field("ACKB", "tokens", "strings"),
    Field("ACKB", "results", "array"),
    Field("FAIL", "token", "string"),
    Field("FAIL", "error", "anything"),
    Field("FAIL", "stack", "anything"),
    Field("FAIL", "unrecoverable", "boolean"),
    Field("FAIL", "retryIn", "time", 0, YEAR),
    Field("JobHeartbeat", "token", "string"),
    Field("JobHeartbeat", "duration", "time", 1, DAY),
    Field("JobHeartbeatB", "ids", "strings", required=True),
    Field("JobHeartbeatB", "tokens", "strings"),
    Field("ExtendLock", "token", "string", required=True),
    Field("ExtendLock", "duration", "time", 1, DAY, required=True),
    Field("Release", "token", "string"),
    Field("Progress", "progress", "number", 0, 100, required=True),
    Field("Progress", "message", "anything"),
    Field("Progress", "token", "string"),
    Field("Auth", "token", "string", required=True),
    Field("Subscribe", "events", "strings or string", required=True),
    Field("Unsubscribe", "events", "strings or string"),
]

LIMITS = [
    ("PUSH", "uniqueKey", 1, 256),
    ("PUSH", "jobId", 1, 256),
    ("PUSH", "groupId", 1, 256),
    ("PUSH", "name", 1, 256),
    ("PUSH", "tags", 0, 100),
    ("PUSH", "dependsOn", 0, 1000),
    ("ACK", "token", 0, 1024),
    ("ACKB", "ids", 0, 10_000),
]
"""Command, field, least and greatest length."""

NOT_JSON = [
    b"", b" ", b"{", b"hello", b"[1,", b'"abc', b"1 x", b"nul", b'{"cmd":"PUSH"', b"{} {}", b"{}\x00", b"{a:1}",
    b'{"data":1,}', b'{"data":01}', b'{"data":NaN}', b'{"data":[Infinity]}', b'{"data":+1}', b'{"data":.5}',
    b'{"data":1.}', b'{"data":"a\nb"}', b'{"data":"\\x41"}', b'{"data":"\\u12g4"}', b'{"data":tru}', b"{'data':1}",
    b'{"data":1/**/}', b'{"data":[1}', b'{"data":1,"x":01}', b'{"data":1,"x":["\\q"]}', b'{"data":"\\"}',
    b"\xef\xbb\xbf{", '{"data":1}'.encode("utf-16"), '{"data":1}'.encode("utf-16-le"),
    b'{"data":"\xff"}', b'{"data":"\xc0\xaf"}', b'{"data":"\xed\xa0\x80"}', b'{"data":"\xf4\x90\x80\x80"}',
    b'{"data":1,"x":"\x80"}', b'{"data":1,"\xff":1}', b'{"data":"\xe6\x97"}', b'{"data":\xff}',
    b'{"data":\xffud800}', b'{"data":1,"x":"\\ud8"}', b'{"data":{"a\x01":1}}', b'{"data":\xc2\xa01}',
]  # fmt: skip


def nested(depth: int, shape: str, field: str) -> bytes:
    """A push whose body is this many brackets deep, the outermost counted."""
    opening, closing = {"[]": ("[", "]"), "{}": ('{"a":', "}"), "mixed": ('[{"a":', "}]")}[shape]
    inside = depth - 1
    if shape == "mixed":
        inner = opening * (inside // 2) + ("[]" if inside % 2 else "1") + closing * (inside // 2)
    else:
        inner = opening * inside + "1" + closing * inside
    return b'{"data":1,"%s":%s}' % (field.encode(), inner.encode())
