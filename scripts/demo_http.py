"""The few lines of HTTP that producer, workers and verification have in common."""

import json
from typing import Any

import httpx

WAITING_PULL_MS = 5_000
ANSWER_WITHIN_S = 30.0  # well beyond a waiting pull: only a server that hangs runs into it


def connect(url: str) -> httpx.Client:
    """Open a keep-alive client that goes straight to `url`, whatever proxy the user has set."""
    return httpx.Client(base_url=url, timeout=ANSWER_WITHIN_S, trust_env=False)


def send(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """POST `body` as pure ASCII, so that file names which are no valid Unicode survive."""
    return client.post(path, content=json.dumps(body).encode("ascii"))


def answer(response: httpx.Response) -> dict[str, Any]:
    """Return the decoded answer; raise with the server's own words if it is a refusal."""
    if response.status_code != httpx.codes.OK:
        message = f"{response.request.method} {response.url.path}: {response.status_code} {response.text}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)
    body: dict[str, Any] = response.json()
    return body
