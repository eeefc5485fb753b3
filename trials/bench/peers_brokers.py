"""Message brokers as stores of the peers: beanstalkd, RabbitMQ and NATS, as Debian packages them."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from bunqueue_trio.testing.process import HOST, START_WITHIN_S, free_port
from trials.lib.servers import BenchError

QUEUE = "bench"
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
"""Its programs without the wrapper of the package, which changes the user."""
LOOKED_WITHIN_S = 60.0


def program(name: str) -> str | None:
    """Return where a program is, None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", str(RABBITMQ))))


class Broker:
    """A process that is started again on the data which it left."""

    scheme = ""

    def __init__(self, directory: Path) -> None:
        """Start it."""
        self._directory = directory
        self._port = free_port()
        self.url = f"{self.scheme}://{HOST}:{self._port}"
        self._start()

    def _start(self) -> None:
        with (self._directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                said = (self._directory / "broker.log").read_text(errors="replace")
                raise BenchError(f"{type(self).__name__} did not start: {said[-300:]}")
            time.sleep(0.05)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), 5).close()
        except OSError:
            return False
        return True

    def waiting(self) -> int:
        """Return how many jobs wait."""
        raise NotImplementedError

    def crash(self) -> None:
        """End it with SIGKILL and start it again on what it left."""
        self.close()
        self._start()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Beanstalkd(Broker):
    """One with a log of its jobs; as it is by default, that is given to the disk every 50 ms."""

    scheme = "beanstalk"

    def _command(self) -> list[str]:
        return ["beanstalkd", "-l", HOST, "-p", str(self._port), "-b", str(self._directory)]

    def waiting(self) -> int:
        """Ask it; a tube that nobody uses is not there."""
        with socket.create_connection((HOST, self._port), 5) as connection:
            connection.sendall(f"stats-tube {QUEUE}\r\nquit\r\n".encode())
            found = re.search(r"current-jobs-ready: (\d+)", connection.makefile("r").read())
        return int(found[1]) if found else 0


class Rabbitmq(Broker):
    """One node with names and ports of its own."""

    scheme = "amqp"

    def __init__(self, directory: Path) -> None:
        self._epmd, self._dist = free_port(), free_port()
        super().__init__(directory)

    def _command(self) -> list[str]:
        return [str(RABBITMQ / "rabbitmq-server")]

    def _environment(self) -> dict[str, str]:
        plugins = self._directory / "plugins"
        plugins.write_text("[].")
        return {
            "PATH": os.environ.get("PATH", ""), "HOME": str(self._directory), "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": "bench@localhost", "RABBITMQ_NODE_IP_ADDRESS": HOST, "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._dist), "ERL_EPMD_PORT": str(self._epmd), "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_MNESIA_BASE": str(self._directory / "data"), "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins), "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self._directory / "none"),
        }  # fmt: skip

    def _answers(self) -> bool:
        return super()._answers() and self._ctl("await_startup") is not None

    def _ctl(self, *arguments: str) -> str | None:
        command = [str(RABBITMQ / "rabbitmqctl"), "-q", *arguments]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=LOOKED_WITHIN_S, check=False
        )
        return done.stdout if done.returncode == 0 else None

    def waiting(self) -> int:
        """Ask it; a queue takes a moment to be there again after its start, and notes its length every 5 s."""
        time.sleep(6)
        deadline = time.monotonic() + START_WITHIN_S
        while (said := self._ctl("list_queues", "messages_ready", "--formatter", "json")) is None:
            if time.monotonic() > deadline:
                raise BenchError("it does not say how many wait")
        return sum(each["messages_ready"] for each in json.loads(said))

    def close(self) -> None:
        """End it, and the mapper of ports that it has started."""
        # The program is a script, and Erlang its child.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        below = [int(each) for each in children.read_text().split()] if children.exists() else []
        super().close()
        for each in below:
            os.kill(each, 9)
        subprocess.run(["epmd", "-kill"], env=self._environment(), capture_output=True, check=False)


class Nats(Broker):
    """One with JetStream, its streams in files."""

    scheme = "nats"

    def __init__(self, directory: Path) -> None:
        self._monitor = free_port()
        super().__init__(directory)

    def _command(self) -> list[str]:
        where = ["-a", HOST, "-p", str(self._port), "--http_port", str(self._monitor)]
        return ["nats-server", *where, "-js", "-sd", str(self._directory)]

    def waiting(self) -> int:
        """Ask it; the stream is one of jobs that are deleted when they are done."""
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            with urllib.request.urlopen(f"http://{HOST}:{self._monitor}/jsz", timeout=5) as answer:
                found = json.load(answer)
            if found["streams"] or time.monotonic() > deadline:  # right after its start it has none yet
                return int(found["messages"])
            time.sleep(0.1)


BROKERS: dict[str, tuple[type[Broker], str]] = {
    "beanstalkd": (Beanstalkd, "beanstalkd"), "RabbitMQ": (Rabbitmq, "rabbitmq-server"), "NATS": (Nats, "nats-server"),
}  # fmt: skip
"""By the name of a peer: what starts it, and the program that must be there."""
