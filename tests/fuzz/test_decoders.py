"""Any bytes at the decoders and the express lane: found by hypothesis, and kept by the coverage-guided fuzzer."""

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import harness
from tests.programs import run_to_its_end

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(CORPUS.glob("*/*"))
SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"

few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("path", KEPT, ids=[f"{path.parent.name}-{path.name}" for path in KEPT])
def test_what_the_fuzzer_kept(path: Path):
    harness.TARGETS[path.parent.name](path.read_bytes())


METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "get", "P\u00d6ST", "GET\t", ""])
TARGETS = st.sampled_from(
    ["/queues/q/jobs", "/queues/q/jobs?timeout=5", "/jobs/x", "/jobs/x/ack", "/jobs/%zz", "/stats", "*", "/../ready",
     "http://x/ready", "/queues/%00/jobs", "/queues/q/jobs?timeout=99999999999999999999", "/ws", "/audit", "//"]
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        ["Host: x", "host:", "Host: y", "Content-Length: 3", "Content-Length: -1", "Content-Length: 1e3", "Upgrade: h2c",
         "Connection: close", "Connection: upgrade", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Expect: x",
         "Expect: 100-continue", " folded", "no colon", ": empty", "X: \x00", "X: " + "x" * 5000, "X-Forwarded-For: ,,",
         "Authorization: Bearer \xff", "Origin: null", "Sec-WebSocket-Key: x", "Last-Event-ID: -1"]
    ),
    max_size=6,
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"", b'{"data":1}', b"{}", b"[]", b'{"data":1}' * 2, b"\xff", b"5\r\n{}\r\n0\r\n\r\n"])
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request, valid or not."""
    body = draw(BODIES)
    lines = [f"{draw(METHODS)} {draw(TARGETS)} HTTP/{draw(st.sampled_from(['1.1', '1.1', '1.1', '1.0', '2.0', '11']))}"]
    lines += draw(st.sampled_from([["Host: x"], []])) + draw(HEADERS)
    if draw(st.booleans()):
        lines.append(f"Content-Length: {len(body)}")
    ends = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))
    return ends.join([*lines, "", ""]).encode("latin-1", "replace") + body


@pytest.mark.slow
@few
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=4))
def test_requests_in_a_pipeline_cut_anywhere(pipeline: list[bytes], cuts: list[int]):
    sent = b"".join(pipeline)
    at = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    harness.http([sent[a:b] for a, b in itertools.pairwise(at)])


@pytest.mark.slow
@few
@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_any_bytes_at_the_express_lane(pieces: list[bytes]):
    harness.http(pieces)


PUSH = b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"data":1}'


@pytest.mark.slow
@pytest.mark.parametrize("cut", range(1, len(PUSH)))
def test_a_request_cut_at_every_byte_is_one_request(cut: int):
    [(status, _)] = harness.http([PUSH[:cut], PUSH[cut:]])
    assert status == 200
    assert [status for status, _ in harness.http([PUSH[:cut]])] in ([], [400])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A WebSocket frame, right or wrong in one thing or another."""
    payload = draw(
        st.one_of(
            st.sampled_from([b"", b'{"cmd":"Ping"}', b'{"cmd":"PUSH","queue":"q","data":1}', b"\x03\xe8bye", b"\x03\xed", b"\x00"]),
            st.binary(max_size=140),
        )
    )  # fmt: skip
    first = draw(st.sampled_from([0x80, 0x80, 0x00, 0xC0, 0x90])) | draw(st.sampled_from([1, 1, 2, 0, 8, 9, 10, 3, 11]))
    length = draw(st.sampled_from([len(payload), len(payload), len(payload), len(payload) + 1, 2**63, 11 * 2**20]))
    masked = draw(st.sampled_from([0x80, 0x80, 0x80, 0]))
    if length < 126:
        size = bytes([masked | length])
    elif length < 2**16:
        size = bytes([masked | 126]) + length.to_bytes(2, "big")
    else:
        size = bytes([masked | 127]) + length.to_bytes(8, "big")
    return bytes([first]) + size + (b"\0\0\0\0" if masked else b"") + payload


@pytest.mark.slow
@few
@given(st.lists(frames(), min_size=1, max_size=6), st.integers(0, 60))
def test_any_frames_of_a_websocket(sent: list[bytes], cut: int):
    harness.websocket(b"".join(sent), min(cut, len(b"".join(sent)) - 1))


@pytest.mark.slow
def test_the_coverage_guided_fuzzer_finds_nothing():
    """A few seconds of it in the full check; hours are for `scripts/fuzz.py` by hand."""
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    command = [sys.executable, str(SCRIPT), *harness.TARGETS, "--seconds", "2", "--seed", "1"]
    done = run_to_its_end(command, within_s=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (done.stdout + done.stderr).count("stat::number_of_executed_units") == len(harness.TARGETS)
