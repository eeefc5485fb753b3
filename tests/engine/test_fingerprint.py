"""Which errors are the same fault: what does not matter, what does, and what it may cost."""

import time

import pytest

from bunqueue_trio.engine.fingerprint import fingerprint

SAME = [
    ("numbers", "no answer within 30 s", "no answer within 2.5 s"),
    ("a sign", "balance is -3", "balance is 12,000"),
    ("units", "took 1.5s of 800ms", "took 12s of 1ms"),
    ("an address", "dial tcp 10.0.0.7:25: connection refused", "dial tcp [2001:db8::1]:587: connection refused"),
    ("a host", "getaddrinfo ENOTFOUND api-7.example.com", "getaddrinfo ENOTFOUND db.internal"),
    ("a port", "connect to localhost:5432 failed", "connect to mail-2:25 failed"),
    ("a uuid", "job 01924f5a-7b3c-7def-8a12-3456789abcde is gone", "job 7D793037-A076-4B8F-9C3B-000000000000 is gone"),
    ("hex", "<Worker object at 0x7f3a2c> died", "<Worker object at 0xff> died"),
    ("a hash", "object d670460b4b4aece5915caf5c68d12f560a9fe3e4 is corrupt", "object 8ab686e is corrupt"),
    ("an id", "no charge ch_3MmlLrLkdIwHu7ix0snN0B15 here", "no charge ch_1NirD82eZvKYlo2CIvbtLWuY here"),
    ("quoted parts", "KeyError: 'user'", 'KeyError: "mail"'),
    ("an apostrophe inside", "can't find 'a'", "can't find 'it's here'"),
    ("other quotes", "stray ‘x’ in `a`", "stray ‘y’ in `b`"),
    ("a path", "cannot open /tmp/a/b.txt for reading", "cannot open ./c/d for reading"),
    ("a path of windows", r"cannot open C:\a\b.txt now", r"cannot open D:\c now"),
    ("a file", "main.rs:2:5: mismatched types", "lib.rs:19:1: mismatched types"),
    ("a link", "GET https://a.example/x?y=1 failed", "GET http://b/2 failed"),
    ("a mailbox", "550 unknown user ann@a.example", "550 unknown user bob.b@b"),
    ("a time", "2026-11-28T18:36:00.123Z worker failed", "2025-01-02 03:04:05 worker failed"),
    ("a time of syslog", "Nov 28 18:36:00 worker failed", "Jan  2 03:04:05 worker failed"),
    (
        "a time between words",
        "failed on Mon, 28 Nov 2026 18:36:00 for good",
        "failed on Thu, 1 Jan 2027 03:04:05 for good",
    ),
    ("a day between words", "failed since Nov 28 for good", "failed since Jan  2 for good"),
    ("colours", "\x1b[31merror\x1b[0m: no", "error: no"),
    ("the length of a list", "expected [1, 2, 3]", "expected [4]"),
    ("who it depended on", "Dependency a failed", "Dependency the other one failed"),
    ("white space", "a  b\n", " a b"),
]
OTHERS = [
    ("the type", "KeyError: 'a'", "IndexError: 'a'"),
    ("the words", "connection refused", "connection reset"),
    ("a status", "Request failed with status code 503", "Request failed with status code 404"),
    ("a status of HTTP", "HTTP/1.1 404 Not Found", "HTTP/1.1 502 Bad Gateway"),
    ("errno", "[Errno 2] failed", "[Errno 13] failed"),
    ("a code", "error[E0308]: it is wrong", "error[E0277]: it is wrong"),
    ("a code of a database", "ORA-00942: it is wrong", "ORA-01017: it is wrong"),
    ("a code in JSON", '{"status":404,"id":"x"}', '{"status":500,"id":"x"}'),
    ("what JSON says", '{"error":"not found"}', '{"error":"forbidden"}'),
    ("an exit code", "exited with code 1", "exited with code 137"),
    ("part of a name", "sha256 mismatch", "sha512 mismatch"),
    ("nothing at all", "", "x"),
]
TRACEBACK = """Traceback (most recent call last):
  File "/app/{}.py", line {}, in f
    raise {}
{}
"""
LINES = [
    ("python", TRACEBACK.format("a", 1, "x", "ValueError: bad"), "ValueError: bad"),
    (
        "the last one of a chain",
        TRACEBACK.format("a", 1, "x", "KeyError: 'x'")
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + TRACEBACK.format("b", 2, "y", "httpx.ReadTimeout: timed out\nmore of it"),
        "httpx.ReadTimeout: timed out",
    ),
    (
        "a group",
        "  + Exception Group Traceback (most recent call last):\n  |   File 'x', line 1\n  | ExceptionGroup: two (2 sub-exceptions)\n"
        "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    | ValueError: 1\n",
        "ExceptionGroup: two (… sub-exception)",
    ),
    ("no end", "Traceback (most recent call last):\n  File 'x'", "Traceback (most recent call last): File …"),
    ("a cause", "java.lang.RuntimeException: job\n\tat a.B.c(B.java:3)\nCaused by: a.B: no\n\tat x\nCaused by: c.D: why\n\t... 3 more", "c.D: why ← java.lang.RuntimeException: job"),
    ("javascript", "/app/a.js:3\n  throw new Error('x')\n  ^\n\nTypeError: x is not a function\n    at a (/app/a.js:3:9)", "TypeError: x is not a function"),
    ("rust", "\nthread 'main' panicked at src/main.rs:2:5:\nindex out of bounds", "thread … panicked at …: index out of bounds"),
    ("a colon at the end", "error:", "error"),
    ("c", "a.c: In function ‘main’:\na.c:3:5: error: expected ‘;’ before ‘}’ token", "…: error: expected … before … token"),
    ("no such line", "first\nsecond", "first"),
    ("a quoted line", '"connection refused"', "connection refused"),
    ("only spaces", " \n\t\n", ""),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in SAME], ids=[pair[0] for pair in SAME])
def test_it_does_not_matter(one: str, other: str):
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in OTHERS], ids=[pair[0] for pair in OTHERS])
def test_it_does_matter(one: str, other: str):
    assert fingerprint(one).key != fingerprint(other).key
    assert fingerprint(one).shape != fingerprint(other).shape


@pytest.mark.parametrize(("error", "shape"), [line[1:] for line in LINES], ids=[line[0] for line in LINES])
def test_the_line_that_tells_is_found(error: str, shape: str):
    assert fingerprint(error).shape == shape


def test_a_key_is_short_and_always_the_same():
    """It is on the disk, and in what people have typed."""
    assert fingerprint("SMTP connection refused") == ("edd9f12d55e5", "SMTP connection refused")
    assert fingerprint("\ud800").key == fingerprint("\ud800").key


def test_the_end_of_a_long_traceback_is_what_counts():
    frames = "".join(f'  File "/app/a.py", line {n}, in f\n    g()\n' for n in range(2000))
    error = f"Traceback (most recent call last):\n{frames}RecursionError: maximum recursion depth exceeded"
    assert len(error) > 50_000
    assert fingerprint(error).shape == "RecursionError: maximum recursion depth exceeded"


def test_of_many_lines_the_first_and_the_last_are_looked_at():
    """A text of 8,000 short ones costs no more than others: a page of groups reads hundreds."""
    lines = ["x"] * 1000
    assert fingerprint("\n".join([*lines, "KeyError: 'a'", *lines])).shape == "x"
    assert fingerprint("\n".join([*lines, "KeyError: 'a'", *lines[:100]])).shape == "KeyError: …"


HOSTILE = ["a", "a\n", "1:", "'a", "/", "a.", "a-", "a/", "0", "aB1", "1.1,", "x@", "\n", "\\", '"\\', "http://", "‘", '{"', "f:", "-1", "\x00", "…, "]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_that_is_made_to_be_slow_is_not(text: str):
    best = 1.0
    for _ in range(5):
        begun = time.process_time()
        shape = fingerprint(text * (65_536 // len(text))).shape
        best = min(best, time.process_time() - begun)
        assert len(shape) <= 200
    assert best < 0.05  # 1 to 3 ms
