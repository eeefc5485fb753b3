"""What is in the log, and what is never in it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tests.conftest import logging_as_before
from tests.operations.processes import environment, serving

SCRIPT = """
import logging, sys, structlog
from bunqueue_trio.logs.lines import configure_logging
configure_logging(sys.argv[1], sys.argv[2])
log = structlog.get_logger()
log.info("quiet")
log.warning("fact", queue="q", token="TOKEN-VALUE", data={"a": "PAYLOAD-VALUE"}, authorization="Bearer HEADER-VALUE")
variable = "VARIABLE" + "-VALUE"
try:
    1 / 0
except ZeroDivisionError:
    log.error("failed", exc_info=True)
    logging.getLogger("hypercorn.error").exception("Error in ASGI Framework")
logging.getLogger("hypercorn.error").info("Running on x")
"""


def logged(level: str, style: str) -> str:
    command = [sys.executable, "-c", SCRIPT, level, style]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "", "logs go to stderr"
    return done.stderr


@pytest.mark.slow
def test_a_start_reads_no_library_that_it_does_not_need_and_leaves_it_to_others():
    code = (
        "import sys, bunqueue_trio.cli.serve, bunqueue_trio.run;"
        "print([m for m in ('rich', 'pygments', 'quart', 'prometheus_client', 'psycopg') if m in sys.modules]);"
        "import bunqueue_trio.cli.watch"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("style", ["human", "json"])
def test_no_secret_payload_or_variable_gets_into_the_log(style: str):
    text = logged("debug", style)
    assert "-VALUE" not in text
    assert "ZeroDivisionError" in text


@pytest.mark.slow
def test_json_is_one_object_a_line_also_of_libraries_and_tracebacks():
    lines = [json.loads(line) for line in logged("info", "auto").splitlines()]
    assert [line["event"] for line in lines] == ["quiet", "fact", "failed", "Error in ASGI Framework"]
    assert all({"timestamp", "level", "event"} <= set(line) for line in lines)
    assert lines[3]["logger"] == "hypercorn.error"
    assert "ZeroDivisionError" in lines[3]["exception"]


@pytest.mark.slow
def test_the_level_is_the_least_that_is_logged():
    assert [json.loads(line)["event"] for line in logged("error", "json").splitlines()] == [
        "failed", "Error in ASGI Framework",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_banner_says_what_runs_where_and_who_may(tmp_path: Path):
    with serving(tmp_path, env={"AUTH_TOKENS": "very-secret", "LOG_FORMAT": "json"}) as running:
        with running.client(headers={"Authorization": "Bearer very-secret"}) as client:
            client.post("/queues/q/jobs", json={"data": "private"}).raise_for_status()
        assert running.stop() == 0
        lines = [json.loads(line) for line in running.log.splitlines()]
    banner = lines[0]
    assert banner["event"] == "listening"
    assert banner["addresses"] == [running.url]
    assert (banner["data_path"], banner["auth"]) == (str(running.data_path), "on")
    assert banner["version"]
    assert [line["event"] for line in lines[1:]] == ["stopping", "stopped"]
    assert "very-secret" not in running.log
    assert "private" not in running.log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "tokens", "warned"), [("0.0.0.0", "", True), ("0.0.0.0", "t", False), ("127.0.0.1", "", False)]
)
def test_an_open_door_to_the_network_is_warned_of(tmp_path: Path, host: str, tokens: str, warned: bool):
    with serving(tmp_path, env={"AUTH_TOKENS": tokens, "HOST": host}) as running:
        assert running.stop() == 0  # a thread writes the log: now it has
        assert ("no AUTH_TOKENS are set" in running.log) is warned


def test_configuring_for_a_host_leaves_its_logging_alone():
    from bunqueue_trio.logs.lines import configure_logging

    before = list(logging.getLogger().handlers)
    configure_logging("info", "json", libraries=False)
    assert logging.getLogger().handlers == before


def test_what_a_test_sets_up_ends_with_it():
    """A test's command once set up the root logger, and lines of other tests were in the output of each full check."""
    from bunqueue_trio.logs.lines import configure_logging

    before = structlog.get_config(), structlog.is_configured(), logging.getLogger().level
    with logging_as_before():
        configure_logging("error", "json")
        assert structlog.get_config() != before[0]
    assert (structlog.get_config(), structlog.is_configured(), logging.getLogger().level) == before
    ours = [each for each in logging.getLogger().handlers if type(each).__module__.startswith("bunqueue_trio.")]
    assert ours == []
