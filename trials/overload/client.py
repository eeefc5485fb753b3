"""The well-behaved client of the attacks: a few pushes, pulls and acks a second, each timed.

    python -m trials.overload.client PORT [tls]

It is a process of its own, so that an attack from the same machine does not hold it up, and prints one line for each
request: when it ended (monotonic), the milliseconds it took, its status (0: no answer), and the connection it used
(`kept` or `new`). It ends with its standard output.
"""

import http.client
import signal
import ssl
import sys
import time

PAUSE_S = 0.02  # about 30 pushes, pulls and acks a second on an idle machine
NEW_EVERY = 5  # cycles for which a connection of its own is opened, as a client does that comes for the first time
PATIENCE_S = 10.0
QUEUE = "good"


def connect(port: int) -> http.client.HTTPConnection:
    """Return a connection that is not opened yet, over TLS if a second argument says so."""
    if len(sys.argv) > 2:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # the certificate was made for the occasion
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=trusting)
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)


def request(port: int, kept: http.client.HTTPConnection | None, method: str, path: str, body: bytes = b"") -> bytes:
    """Make one request, print its figures and return the answer's body; b"" when there was none."""
    connection = kept or connect(port)
    begun = time.monotonic()
    status, answer = 0, b""
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        status, answer = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request connects anew
        print(f"{method} {path}: {error!r}", file=sys.stderr, flush=True)
    now = time.monotonic()
    print(f"{now:.4f} {(now - begun) * 1000:.2f} {status} {'kept' if kept else 'new'}", flush=True)
    if kept is None:
        connection.close()
    return answer if status == 200 else b""


def cycle(port: int, kept: http.client.HTTPConnection | None) -> None:
    """Push a job, take it, complete it."""
    request(port, kept, "POST", f"/queues/{QUEUE}/jobs", b'{"data":{"to":"user@test.com"}}')
    pulled = request(port, kept, "GET", f"/queues/{QUEUE}/jobs")
    begin = pulled.find(b'"id":"')
    if begin >= 0:
        job_id = pulled[begin + 6 :].split(b'"', 1)[0].decode()
        request(port, kept, "POST", f"/jobs/{job_id}/ack", b"{}")


def main() -> None:
    """Go on until the output is closed or the process is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(sys.argv[1])
    kept = connect(port)
    count = 0
    while True:
        count += 1
        cycle(port, None if count % NEW_EVERY == 0 else kept)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
