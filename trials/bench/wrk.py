"""HTTP load through wrk: the Lua scripts that it is given, and what it found.

wrk is written in C and costs a fraction of what it measures. A push is one request made once and sent again and again; a
cycle of push, pull and ack follows the ids in the answers, with one connection a thread, so that each thread has one state.
"""

import json
import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trials.lib.raw_http import push_body
from trials.lib.servers import BenchError

_DONE = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
  local e, rounds, dry, bad = summary.errors, 0, 0, 0
  for _, thread in ipairs(threads) do
    rounds = rounds + (thread:get("rounds") or 0)
    dry = dry + (thread:get("dry") or 0)
    bad = bad + (thread:get("bad") or 0)
  end
  io.write(string.format(
    'RESULT {"requests":%d,"us":%d,"status":%d,"socket":%d,"p50":%f,"p99":%f,"rounds":%d,"dry":%d,"bad":%d}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), rounds, dry, bad))
end
"""

_POST = """
wrk.method = "POST"
wrk.path = "%(path)s"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%(body)s'
"""

_TO_MANY = """
local n, json = 0, {["Content-Type"] = "application/json"}
function request()
  n = (n + 7919) %% %(queues)d
  return wrk.format("POST", "/queues/queue-" .. n .. "/jobs", json, '%(body)s')
end
"""

# The state moves on in response(): wrk also calls request() once only to see that it can be parsed.
_CYCLE = """
local first = "%(first)s"
local json = {["Content-Type"] = "application/json"}
local push, pull
local step, id = first, nil
rounds, dry, bad = 0, 0, 0
function init(args)
  push = wrk.format("POST", "/queues/%(queue)s/jobs", json, '%(body)s')
  pull = wrk.format("GET", "/queues/%(queue)s/jobs")
end
function request()
  if step == "push" then return push end
  if step == "pull" then return pull end
  return wrk.format("POST", "/jobs/" .. id .. "/ack", json, "{}")
end
function response(status, headers, body)
  if status ~= 200 or string.sub(body, 1, 10) ~= '{"ok":true' then
    bad = bad + 1
    step = first
  elseif step == "push" then
    step = "pull"
  elseif step == "pull" then
    id = string.match(body, '"id":"([^"]+)"')
    if id then step = "ack" else dry = dry + 1; step = first end
  else
    rounds = rounds + 1
    step = first
  end
end
"""


_BATCHES = """
local json = {["Content-Type"] = "application/json"}
local push, pull
local step, ids = "push", nil
rounds, dry, bad = 0, 0, 0
function init(args)
  push = wrk.format("POST", "/queues/batches/jobs/bulk", json, '%(body)s')
  pull = wrk.format("POST", "/queues/batches/jobs/pull-batch", json, '{"count":%(count)d}')
end
function request()
  if step == "push" then return push end
  if step == "pull" then return pull end
  return wrk.format("POST", "/jobs/ack-batch", json, '{"ids":[' .. ids .. ']}')
end
function response(status, headers, body)
  if status ~= 200 or string.sub(body, 1, 10) ~= '{"ok":true' then
    bad = bad + 1
    step = "push"
  elseif step == "push" then
    step = "pull"
  elseif step == "pull" then
    local found = {}
    for id in string.gmatch(body, '"id":("[^"]+")') do table.insert(found, id) end
    ids = table.concat(found, ",")
    if ids == "" then dry = dry + 1; step = "push" else step = "ack" end
  else
    rounds = rounds + 1
    step = "push"
  end
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk is to do: a name for messages, its script, and over how many connections and threads."""

    name: str
    script: str
    connections: int
    threads: int = 1


@dataclass(frozen=True)
class Found:
    """What wrk found; every answer was good, or there is no such object."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    rounds: int
    """Whole cycles, of a load that has them."""
    dry: int
    """Pulls that found nothing."""
    client_cpu: float
    """CPU seconds of wrk for each second."""


def push(connections: int, *, durable: bool = False) -> Load:
    """Push one job a request."""
    body = push_body(durable=durable).decode()
    return Load(f"push over {connections}", _DONE + _POST % {"path": "/queues/push/jobs", "body": body}, connections)


def push_to_many(connections: int, queues: int) -> Load:
    """Push one job a request, to one of many queues after the other."""
    values = {"queues": queues, "body": push_body().decode()}
    return Load(f"push to {queues} queues", _DONE + _TO_MANY % values, connections)


def get(connections: int, path: str) -> Load:
    """Ask for the same again and again."""
    return Load(path, f'{_DONE}\nwrk.path = "{path}"\n', connections)


def bulk(connections: int, body: bytes) -> Load:
    """Push many jobs a request."""
    return Load("bulk push", _DONE + _POST % {"path": "/queues/push/jobs/bulk", "body": body.decode()}, connections)


def cycle(connections: int, queue: str, *, pushing: bool) -> Load:
    """Pull a job and acknowledge it; with `pushing` add one before, so that the backlog keeps its size."""
    values = {"first": "push" if pushing else "pull", "queue": queue, "body": push_body().decode()}
    return Load("cycle", _DONE + _CYCLE % values, connections, threads=connections)


def batches(connections: int, body: bytes, count: int) -> Load:
    """Push, pull and acknowledge `count` jobs at once."""
    values = {"body": body.decode(), "count": count}
    return Load("batches", _DONE + _BATCHES % values, connections, threads=connections)


def is_installed() -> bool:
    """Tell whether wrk is there."""
    return shutil.which("wrk") is not None


def run(load: Load, url: str, seconds: int) -> Found:
    """Put the load on the server at `url`.

    Raises:
        BenchError: an answer was not good, a connection failed, or wrk did: such numbers mean nothing.
    """
    before = _children_cpu_s()
    with tempfile.NamedTemporaryFile("w", prefix="bench-", suffix=".lua") as script:
        script.write(load.script)
        script.flush()
        command = ["wrk", f"-t{load.threads}", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s"]
        try:
            done = subprocess.run(
                [*command, "-s", script.name, url], cwd=Path(script.name).parent, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=seconds + 60, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BenchError(f"{load.name}: wrk did not end") from None
    match = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or match is None:
        raise BenchError(
            f"{load.name}: wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
        )
    said = json.loads(match[1])
    if said["status"] or said["socket"] or said["bad"]:
        raise BenchError(
            f"{load.name}: of {said['requests']} requests {said['status']} were refused, {said['bad']} badly answered, "
            f"and {said['socket']} connections failed"
        )
    if not said["requests"]:
        raise BenchError(f"{load.name}: nothing was answered")
    elapsed = said["us"] / 1e6
    return Found(
        said["requests"], elapsed, said["p50"] / 1e3, said["p99"] / 1e3, said["rounds"], said["dry"],
        (_children_cpu_s() - before) / elapsed,
    )  # fmt: skip


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
