"""What type checkers must make of a handler and its job; read by `test_typing`, and never run."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from bunqueue_trio import App, Client, Job, Worker
from bunqueue_trio import commands as c
from bunqueue_trio.client import Backoff
from bunqueue_trio.sync import SyncClient


@dataclass
class Email:
    to: str


worker = Worker("emails")
app = App()


@worker.handler
async def send(job: Job[Email]) -> int:
    assert_type(job, Job[Email])
    assert_type(job.data, Email)
    assert_type(job.fence, int)
    return len(job.data.to)


@worker.handler
def send_plainly(job: Job) -> str:
    assert_type(job.data, Any)
    return job.id


@app.handler("mailings", concurrency=5)
async def mail(job: Job[list[Email]], mailer: str = "smtp") -> int:
    assert_type(await send.push(job.data[0]), str)
    return len(mailer)


@app.task("reports", cron="0 3 * * *")
def report(job: Job[int]) -> str:
    return job.id


@worker.handler(name="welcome")
async def welcome(job: Job[Email]) -> int:
    assert_type(job.name, str | None)
    return len(job.data.to)


async def use(client: Client, job: Job[Email]) -> None:
    assert_type(await send(job), int)
    assert_type(send_plainly(job), str)
    assert_type(await mail(Job[list[Email]].__new__(Job), mailer="none"), int)
    assert_type(await send.push(Email("x"), delay=5.0), str)
    assert_type(await welcome.push(Email("x"), name="other"), str)
    assert_type(await mail.push([Email("x")]), str)
    assert_type(await report.push(5), str)
    assert_type(await send_plainly.push({"to": "x"}), str)
    await send.push(5)  # type: ignore[arg-type]  # wrong: no payload of that handler
    await send.push({"to": "x"})  # type: ignore[arg-type]  # wrong: the same
    await mail.push(Email("x"))  # type: ignore[arg-type]  # wrong: one for a list
    await report.push("5")  # type: ignore[arg-type]  # wrong: a text for a number
    await send.push(Email("x"), prio=3)  # type: ignore[call-arg]  # wrong: an option that does not exist
    await send.push()  # type: ignore[call-arg]  # wrong: no payload at all
    async with app as opened, worker:
        assert_type(opened, Client)
    assert_type(await client.push("emails", {"to": "x"}, delay=5.0, max_attempts=3), str)
    assert_type(await client.push_to(send, Email("x"), delay=5.0), str)
    assert_type(await client.push_to(send_plainly, 5), str)
    assert_type(await client.push_to(welcome, Email("x"), name="welcome"), str)
    await client.push_to(welcome, 5)  # type: ignore[arg-type]  # wrong: no payload of that handler
    assert_type(await job.push_to(send, Email("x")), str)
    await client.push_to(send, 5)  # type: ignore[arg-type]  # wrong: no payload of that handler
    await job.push_to(send, {"to": "x"})  # type: ignore[arg-type]  # wrong: the same
    assert_type(await client.pull("emails"), Job[Any] | None)
    assert_type(await client.push_many("emails", [{"data": 1, "priority": 2}]), list[str])
    assert_type(await client.run(c.Push(queue="emails", data=c.payload(1))), c.PushReply)
    assert_type(await client.run(c.GetState(id="x")), c.StateReply)
    assert_type(await client.run(c.Pull(queue="emails", timeout=5)), c.PullReply)
    await client.run("GetState")  # type: ignore[arg-type]  # wrong: a text for a command
    c.GetState(job="x")  # type: ignore[call-arg]  # wrong: a field that does not exist
    assert_type(await client.push("emails", backoff={"type": "fixed", "delay": 1.5, "jitter": 0.5}), str)
    assert_type((await client.get("x")).backoff, float | Backoff)
    await client.push("emails", backoff={"type": "linear", "delay": 1})  # type: ignore[arg-type]  # wrong: no such type
    await client.push("emails", prio=3)  # type: ignore[call-arg]  # wrong: an option that does not exist
    await client.push("emails", delay="5s", ttl=timedelta(hours=1))
    await client.push("emails", delay=[5])  # type: ignore[arg-type]  # wrong: a list for a time
    worker.handler(len)  # type: ignore[type-var]  # wrong: takes no job
    worker.handler(name=5)  # type: ignore[call-overload]  # wrong: a number for a name


def use_plainly(client: SyncClient) -> None:
    assert_type(client.push_to(send, Email("x"), delay=5.0), str)
    assert_type(client.push_to(send_plainly, 5), str)
    client.push_to(welcome, 5)  # type: ignore[arg-type]  # wrong: no payload of that handler
    assert_type(client.run(c.GetResult(id="x")), c.ResultReply)
    assert_type(client.run(c.Stats()).stats, dict[str, int])
