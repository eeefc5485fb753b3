"""AUTH_TOKENS_FILE with roles: each route and each command lets in whom its row says, on both lanes and over WebSocket."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from bunqueue_trio.config import ROLES
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands.spec import Role, Spec
from bunqueue_trio.protocol.routes import ROUTES, Route
from tests.patience import PATIENCE_S
from tests.stream.ws import peer
from tests.wire.client import Client, refused
from tests.wire.server import NO_TLS, Server, StartServer

TOKENS = {"read": "r-1", "work": "w-1", "admin": "a-1"}
FILE = "# who may do what\nann admin a-1\n\nbob  work\tw-1\nprometheus read r-1\nbare-1\n"


@pytest.fixture(scope="module", params=["express", "hypercorn"])
def guarded(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(FILE)
    settings = {"AUTH_TOKENS": "bare-2", "AUTH_TOKENS_FILE": str(file), "METRICS_AUTH": "true"}
    return start_server(settings | ({"EXPRESS": "false"} if request.param == "hypercorn" else {}))


@pytest.fixture(scope="module")
def clients(guarded: Server) -> Iterator[dict[str, httpx.Client]]:
    """One for each token; a client of its own for each request would cost more than the request."""
    with ExitStack() as opened:
        yield {
            token: opened.enter_context(
                httpx.Client(
                    base_url=guarded.url,
                    headers={"Authorization": f"Bearer {token}"},
                    trust_env=False,
                    timeout=PATIENCE_S,
                    verify=NO_TLS,
                )
            )
            for token in (*TOKENS.values(), "bare-1", "bare-2")
        }


def status_and_code(client: httpx.Client, route: Route) -> tuple[int, str | None]:
    path = re.sub(r":\w+", "x", route.path)
    with client.stream(route.method, path, content=b"{}" if route.method != "GET" else None) as response:
        if response.headers["content-type"] == "text/event-stream":
            return response.status_code, None
        response.read()
        return response.status_code, None if response.status_code == 200 else response.json().get("code")


def test_the_roles_of_a_file_are_those_of_the_catalogue():
    assert [role.name.lower() for role in Role] == list(ROLES) == list(TOKENS)
    asked = {route.target: route.role for route in ROUTES}
    assert {spec.command: spec.role for spec in CATALOG if spec.http is not None}.items() <= asked.items()


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_lets_in_whom_its_row_says(clients: dict[str, httpx.Client], route: Route):
    takes_token = not route.open and route.asks_for_token(metrics_auth=True)
    for role, token in TOKENS.items():
        status, code = status_and_code(clients[token], route)
        if takes_token and Role[role.upper()] < route.role:
            assert (status, code) == (403, "missing-role")
        else:
            assert status not in (401, 403)
    # What lets in whoever may least lets in these, too.
    for token in ("bare-1", "bare-2") if route.role is max(Role) else ():
        assert status_and_code(clients[token], route)[0] not in (401, 403)


def message_of(spec: Spec, token: str) -> dict[str, Any]:
    request = spec.example.request if spec.example is not None else None
    fields = {"queue": "x", "id": "x", "token": token, "events": "*"} | (request or {})
    return {
        name: value
        for name, value in fields.items()
        if name in spec.command.__struct_fields__ or name in (request or {})
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_command_over_websocket_lets_in_whom_its_row_says(guarded: Server, role: str):
    with peer(guarded, quiet=True, Authorization=f"Bearer {TOKENS[role]}") as connected:
        for spec in CATALOG:
            reply = connected.ask(spec.tag, **message_of(spec, TOKENS[role]))
            is_refused = reply.get("code") == "missing-role"
            assert is_refused == (Role[role.upper()] < spec.role), (spec.tag, reply)
            if is_refused:
                assert (
                    reply["error"]
                    == f"Token may not do this: it takes the role {spec.role.name.lower()}, and has {role}"
                )


def test_a_refused_push_changes_nothing(guarded: Server, queue: str):
    with Client(guarded.url, {"Authorization": "Bearer r-1"}) as reader:
        response = reader.http.post(f"/queues/{queue}/jobs", json={"data": 1})
        assert response.status_code == 403
        assert response.json() == {
            "ok": False, "error": "Token may not do this: it takes the role work, and has read", "code": "missing-role",
        }  # fmt: skip
        assert reader.http.get(f"/queues/{queue}/count").json()["count"] == 0
        refused(reader.http.get("/no/such/path"), 404)
        refused(reader.http.put("/stats"), 405)


def test_the_token_that_a_connection_says_last_counts(guarded: Server, queue: str):
    with peer(guarded, quiet=True, Authorization="Bearer r-1") as connected:
        assert (
            connected.refused("PUSH", queue=queue, data=1)
            == "Token may not do this: it takes the role work, and has read"
        )
        assert connected.refused("Auth", token="nobody") == "Invalid token"
        assert (
            connected.refused("PUSH", queue=queue, data=1)
            == "Token may not do this: it takes the role work, and has read"
        )
        connected.done("Auth", token="w-1")
        connected.done("PUSH", queue=queue, data=1)
        connected.refused("Drain", queue=queue)
        connected.done("Auth", token="bare-1")
        connected.done("Drain", queue=queue)
        connected.done("Auth", token="r-1")
        connected.refused("Drain", queue=queue)


def test_a_worker_lets_wait_again_what_it_has_but_no_dead_letter(guarded: Server, queue: str):
    """To retry one is an act of an operator, whatever the command is called."""

    def ask(token: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"}
        response = httpx.request(
            method, guarded.url + path, headers=headers, json=body, trust_env=False, timeout=PATIENCE_S, verify=NO_TLS
        )
        return response.status_code, response.json()

    job_id = ask("w-1", "POST", f"/queues/{queue}/jobs", {"data": 1, "maxAttempts": 1})[1]["id"]
    move = f"/jobs/{job_id}/move-to-wait"
    ask("w-1", "GET", f"/queues/{queue}/jobs")
    assert ask("w-1", "POST", move, {})[0] == 200
    ask("w-1", "GET", f"/queues/{queue}/jobs")
    assert ask("w-1", "POST", f"/jobs/{job_id}/fail", {"error": "x"})[0] == 200
    status, said = ask("w-1", "POST", move, {})
    assert (status, said["code"]) == (403, "missing-role")
    with peer(guarded, quiet=True, Authorization="Bearer w-1") as connected:
        assert connected.ask("MoveToWait", id=job_id)["code"] == "missing-role"
    with peer(guarded, quiet=True, Authorization="Bearer a-1") as connected:
        assert connected.ask("MoveToWait", id=job_id)["ok"] is True
