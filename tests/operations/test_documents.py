"""The documents and files for operations say what the code does: names, tables, commands, settings."""

import ast
import configparser
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bunqueue_trio import config
from bunqueue_trio.cli import COMMANDS, main
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.planner import BEHIND, LATE
from bunqueue_trio.protocol.codec import DEPTH_MAX
from bunqueue_trio.run import NO_TOKENS
from tests.operations.processes import environment, serving
from tests.operations.tables import (
    codes_table,
    commands_table,
    events_table,
    fields_table,
    job_table,
    metric_families,
    metrics_table,
    named_events_table,
    names_table,
    passing_refusals,
    settings_table,
    task_names,
    without_code,
)

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
WEBSOCKET = (ROOT / "docs/websocket.md").read_text(encoding="utf-8")
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
VARIABLES = {f.metadata["env"] for f in fields(Settings)}
METRIC = re.compile(r"\bbunqueue_[a-z_]+\b")
AGAIN = "`python -m tests.operations.tables` writes the table as the code has it; lists are by hand"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every name that a query can use."""
    exposed: set[str] = set()
    for name, (kind, _) in metric_families().items():
        exposed |= {name + suffix for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return exposed


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    boards = [json.loads(path.read_text()) for path in sorted((ROOT / "docs/grafana").glob("*.json"))]
    assert boards
    return [panel for board in boards for panel in board["panels"]]


def test_alerts_use_only_metrics_that_exist(names: set[str]):
    for rule in alerts():
        used = set(METRIC.findall(rule["expr"])) | ({"up"} if "up{" in rule["expr"] else set())
        assert used, rule["alert"]
        assert used <= names | {"up"}, rule["alert"]


def test_every_alert_has_a_severity_a_summary_and_a_section():
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"operations.md#{rule['alert'].lower()}"
        assert f"\n### {rule['alert']}\n" in OPERATIONS


def test_dashboards_use_only_metrics_that_exist(names: set[str]):
    for panel in panels():
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            used = set(METRIC.findall(target["expr"]))
            assert used, panel["title"]
            assert used <= names, panel["title"]


def test_the_labels_in_dashboards_and_alerts_are_the_metrics_own():
    labels = {"instance", "job", "le", "state", "queue", "kind", "task", "version"}
    expressions = [rule["expr"] for rule in alerts()] + [t["expr"] for panel in panels() for t in panel["targets"]]
    for expression in expressions:
        assert set(re.findall(r"(\w+)\s*=~?\s*\"", expression)) <= labels, expression
        for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert set(by.split(", ")) <= labels, expression


def test_the_tables_in_the_documents_are_the_codes():
    assert "\n".join(settings_table()) in OPERATIONS, AGAIN
    assert "\n".join(metrics_table()) in OPERATIONS, AGAIN
    for table in (names_table, commands_table, fields_table, job_table, codes_table):
        assert "\n".join(table()) + "\n\n" in WEBSOCKET, AGAIN
    for line in (without_code(), passing_refusals()):
        assert line in WEBSOCKET.replace("\n", " "), line
    for head, table in (("| `eventType` |", events_table), ("| by name |", named_events_table)):
        section = WEBSOCKET.split(head)[1].split("\n\n")[0]
        for row, said in zip(table(), section.splitlines()[2:], strict=True):
            assert said.startswith(row), AGAIN


def test_the_limits_of_a_websocket_are_the_codes():
    section = WEBSOCKET.split("## Limits")[1].split("## ")[0]
    settings = Settings()
    for number in (
        config.SESSION_POLLS_MAX, config.SESSION_REPLIES_MAX, config.READER_EVENTS_MAX, settings.connections_max, DEPTH_MAX,
    ):  # fmt: skip
        assert f"{number:,}" in section
    for size in (config.SESSION_BYTES_MAX, config.READER_BYTES_MAX, settings.body_max_bytes):
        assert f"{size // config.MIB} MiB" in section
    assert f"nothing for {config.PING_S} s" in WEBSOCKET
    assert f"after {config.PING_S * (config.PINGS_MISSED_MAX + 1)} s of silence" in WEBSOCKET
    assert f"for {config.WRITE_TIMEOUT_S} s. Your own" in WEBSOCKET.replace("\n", " ")
    assert f"within {config.RESTART_GRACE_MS // 1000} s of its start" in WEBSOCKET.replace("\n", " ")
    assert f"ends at {config.PULL_BATCH_BYTES // config.MIB} MiB" in WEBSOCKET


def test_documents_name_only_metrics_settings_and_commands_that_exist(names: set[str]):
    for text in (OPERATIONS, DEPLOY):
        spoken = {name for name in METRIC.findall(text) if name != "bunqueue_trio"}
        assert spoken <= names | set(metric_families())
        commands = set(re.findall(r"`bunqueue-trio ([a-z]+)", text))
        assert commands <= set(COMMANDS)
    assert set(COMMANDS) <= set(re.findall(r"`bunqueue-trio ([a-z]+)", OPERATIONS))
    for word in re.findall(r"`([A-Z][A-Z_]{3,})[=`]", OPERATIONS + DEPLOY):
        assert word in VARIABLES | {"BUNQUEUE_URL", "BUNQUEUE_TOKEN", "SSL_CERT_FILE"}, word


def test_the_table_of_commands_is_the_command_lines():
    """All commands, as the help has them: their order, arguments and flags."""
    section = OPERATIONS.split("## Commands")[1].split("### ")[0]
    rows = re.findall(r"^\| `bunqueue-trio (\w+)([^`]*)` \| (.*) \|$", section, re.MULTILINE)
    assert list(dict.fromkeys(name for name, _, _ in rows)) == list(COMMANDS)
    asking = []
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        flags = {flag for each in command.params for flag in each.opts if flag.startswith("--")}
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        usage = "".join(f" {each.make_metavar(click.Context(command))}" for each in arguments)
        for said, text in ((said, text) for row, said, text in rows if row == name):
            assert set(re.findall(r"--[a-z-]+", f"{said} {text}")) <= flags | {"--help"}, name
            if "--" not in said:
                assert said in {usage, usage.replace("[", "").replace("]", "")}, name
        if {"--url", "--token"} <= flags and name != "worker":
            asking.append(name)
    (sentence,) = re.findall(r"^(`findings`.*) ask a server", section, re.MULTILINE)
    assert re.findall(r"`([a-z]+)(?: --live)?`", sentence) == asking


def test_the_architecture_names_every_task_and_every_layer():
    tasks = ARCHITECTURE.split("## The tasks")[1].split("## ")[0]
    assert [name for name in task_names() if name not in tasks] == []
    layers = ARCHITECTURE.split("## Layers")[1].split("## ")[0]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    names = re.findall(r"\w+", " ".join(contracts[0]["layers"]))
    assert names
    assert [name for name in names if f"`{name}`" not in layers] == []


def test_every_logged_event_in_the_table_is_in_the_code():
    section = OPERATIONS.split("## Logs")[1].split("## Metrics")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| (?:info|warning|error|critical)", section, re.MULTILINE)
    events = [event.removesuffix("…").strip() for row in rows for event in re.findall(r"`([^`]+)`", row)]
    assert len(events) > 8
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert [event for event in events if event not in source] == []


def test_the_unit_starts_what_exists_with_settings_that_exist():
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy/bunqueue-trio.service")
    service = unit["Service"]
    program, command = service["ExecStart"].split()
    assert (Path(program).name, command in COMMANDS) == ("bunqueue-trio", True)
    assert {pair.partition("=")[0] for pair in service["Environment"].split()} <= VARIABLES
    grace_s = next(f.default for f in fields(Settings) if f.name == "shutdown_grace_ms") / 1000
    assert int(service["TimeoutStopSec"].removesuffix("s")) > 2 * grace_s
    assert service["RestartPreventExitStatus"] == "2"
    for line in ("DynamicUser", "StateDirectory", "RuntimeDirectory", "MemoryDenyWriteExecute"):
        assert line in service
        assert line in DEPLOY


def test_compose_and_its_files_agree():
    directory = ROOT / "deploy"
    compose = yaml.safe_load((directory / "compose.yml").read_text())
    for name, service in compose["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (directory / source).exists() if source.startswith(".") else source in compose["volumes"], name
        assert service["read_only"], name
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"]), name
        assert {"mem_limit", "pids_limit"} <= set(service), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
    assert set(compose["services"]["bunqueue"]["environment"]) <= VARIABLES
    assert (directory / compose["services"]["bunqueue"]["build"]["context"] / "deploy/Dockerfile").exists()
    prometheus = yaml.safe_load((directory / "prometheus.yml").read_text())
    job = prometheus["scrape_configs"][0]
    assert (job["job_name"], job["metrics_path"]) == ("bunqueue", "/prometheus")
    assert job["static_configs"][0]["targets"] == ["bunqueue:6790"]
    source = yaml.safe_load((directory / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert {p["datasource"]["uid"] for p in panels()} == {source["datasources"][0]["uid"]}


def test_the_cluster_to_try_and_its_files_agree():
    directory = ROOT / "deploy/cluster"
    services = yaml.safe_load((directory / "compose.yml").read_text())["services"]
    servers = [name for name, service in services.items() if service["image"] == "bunqueue-trio" and name != "migrate"]
    for name in servers:
        assert set(services[name]["environment"]) <= VARIABLES | {"PGPASSWORD"}, name
        assert (directory / services[name]["build"]["context"] / "deploy/Dockerfile").exists()
    for service in services.values():
        assert all(each in services for each in service.get("depends_on", ()))
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (directory / source).exists()
    balancer = (directory / "haproxy.cfg").read_text()
    for backend in balancer.split("\nbackend ")[1:]:
        assert re.findall(r"^    server (\w+) +(\w+):6790$", backend, re.MULTILINE) == [
            (name, name) for name in servers
        ]
    assert "psycopg==" in (ROOT / "requirements/postgres.txt").read_text()
    assert "-r requirements/postgres.txt" in (ROOT / "deploy/Dockerfile").read_text()


def test_the_balancer_in_the_documents_is_the_one_that_can_be_tried():
    balancer = {line.strip() for line in (ROOT / "deploy/cluster/haproxy.cfg").read_text().splitlines()}
    shown = (ROOT / "docs/cluster.md").read_text().split("```\nfrontend clients\n")[1].split("```")[0]
    lines = {line.split("#")[0].strip() for line in shown.splitlines()} - {""}
    assert {line for line in lines if not line.startswith("server ")} <= balancer


def dockerfile() -> str:
    return (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")


def test_the_image_copies_only_what_exists_and_what_is_not_ignored():
    allowed = [
        line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copied = [
        word for line in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile(), re.MULTILINE) for word in line.split()
    ]
    assert set(copied) == set(allowed)
    assert all((ROOT / name).exists() for name in copied)
    variables = set(re.findall(r"\b([A-Z_]{4,})=", dockerfile().split("ENV ")[1].split("USER")[0]))
    assert variables - {"PATH", "PYTHONUNBUFFERED"} <= VARIABLES


def test_the_image_installs_nothing_without_a_hash():
    commands = re.findall(r"\bpip (?:install|wheel) [^&\n]*", dockerfile())
    assert len(commands) > 2
    for command in commands:
        assert "--require-hashes" in command or "--no-deps" in command, command
        assert "--no-build-isolation" in command or "pip wheel" not in command, command
    for line in re.findall(r"pip install [^&\n]*", DEPLOY):
        assert "--require-hashes" in line or ("--no-deps" in line and "--no-build-isolation" in line), line


@pytest.mark.slow
def test_the_images_health_check_tells_a_ready_server_from_none(tmp_path: Path):
    line = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", dockerfile(), re.MULTILINE)
    assert line is not None
    command: list[str] = ast.literal_eval(line[1])
    assert command[0] == "python"
    with serving(tmp_path) as running:
        env = environment({"HTTP_PORT": str(running.port)})
        check = [sys.executable, *command[1:]]
        assert subprocess.run(check, env=env, check=False, timeout=60).returncode == 0
        running.stop()
        assert subprocess.run(check, env=env, check=False, capture_output=True, timeout=60).returncode == 1


def test_every_line_of_the_servers_log_is_reported():
    """Those of clients, of workers and of the test kit are not the server's."""
    section = OPERATIONS.split("\n## Logs\n")[1].split("\n## ")[0]
    known = [name.removesuffix("…").strip() for name in re.findall(r"`([^`]+)`", section)]
    said = set[str]()
    for path in Path(config.__file__).parents[1].rglob("*.py"):
        if {"client", "sync", "cli", "testing"}.isdisjoint(path.parts[-2:-1]) and "testing" not in path.parts:
            said.update(re.findall(r'_log\.(?:info|warning|error|critical|exception)\(\s*"([^"]+)"', path.read_text()))
    assert len(said) > 25
    said |= {LATE, BEHIND, NO_TOKENS}
    assert not {
        text for text in said if not any(text == name or (" " in name and text.startswith(name)) for name in known)
    }


def test_the_numbers_of_the_schemas_are_those_of_the_stores():
    steps = files("bunqueue_trio.storage")
    newest = [
        max(entry.name[3] for entry in steps.joinpath(*where).iterdir() if entry.name.endswith(".sql"))
        for where in (("sqlite", "schema"), ("postgres", "ddl"))
    ]
    upgrading, running = ((ROOT / "docs" / name).read_text() for name in ("deploy.md", "postgres.md"))
    assert re.findall(r"is the file's alone: (\d) in this version|they are at (\d)", upgrading) == [
        (newest[0], ""),
        ("", newest[1]),
    ]
    assert re.findall(r"schema (\d) now\..* a file has another one, (\d)", running) == [(newest[1], newest[0])]
