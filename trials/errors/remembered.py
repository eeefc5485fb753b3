"""Errors of programs that are not here, as they write them: a check on texts that the rules were not made with."""

from collections.abc import Callable, Iterator

from trials.errors.things import Things

TEXTS: dict[str, Callable[[Things], str]] = {
    "go: nil": lambda t: f"panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x{t.number():x} pc=0x{t.number():x}]\n\ngoroutine {t.number()} [running]:\nmain.main()\n\t/app/main.go:{t.number()} +0x1d",
    "go: index": lambda t: f"panic: runtime error: index out of range [{t.number()}] with length {t.number()}\n\ngoroutine 1 [running]:",
    "go: refused": lambda t: f'Post "http://{t.host()}:{t.port()}/{t.word()}": dial tcp 10.0.{t.rng.randrange(9)}.{t.rng.randrange(200)}:{t.port()}: connect: connection refused',
    "go: deadline": lambda t: f'Get "https://{t.host()}{t.path()}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
    "go: no host": lambda t: f"dial tcp: lookup {t.host()} on 10.96.0.10:53: no such host",
    "go: json": lambda t: f"json: cannot unmarshal string into Go struct field Order.{t.name()} of type int",
    "ruby: nil": lambda t: f"/app/jobs/mail.rb:{t.number()}:in `perform': undefined method `{t.name()}' for nil:NilClass (NoMethodError)",
    "ruby: missing": lambda t: f"ActiveRecord::RecordNotFound: Couldn't find User with 'id'={t.number()}",
    "ruby: timeout": lambda t: f"Net::ReadTimeout: Net::ReadTimeout with #<TCPSocket:(closed)> after {t.rng.random() * 60:.2f}s",
    "php: uncaught": lambda t: f"PHP Fatal error:  Uncaught TypeError: strlen(): Argument #1 ($string) must be of type string, array given in {t.path()}:{t.number()}",
    "php: undefined": lambda t: f'PHP Warning:  Undefined array key "{t.word()}" in {t.path()}.php on line {t.number()}',
    "php: memory": lambda t: f"Allowed memory size of {t.number()} bytes exhausted (tried to allocate {t.number()} bytes)",
    "c#: null": lambda t: f"System.NullReferenceException: Object reference not set to an instance of an object.\n   at Shop.Mail.Send() in C:\\src\\Mail.cs:line {t.number()}",
    "c#: format": lambda t: f"System.FormatException: The input string '{t.word()}' was not in a correct format.",
    "postgres: unique": lambda t: f'ERROR:  duplicate key value violates unique constraint "users_pkey"\nDETAIL:  Key (id)=({t.number()}) already exists.',
    "postgres: no table": lambda t: f'ERROR:  relation "orders" does not exist at character {t.number()}',
    "postgres: deadlock": lambda t: f"ERROR:  deadlock detected\nDETAIL:  Process {t.number()} waits for ShareLock on transaction {t.number()}; blocked by process {t.number()}.",
    "postgres: too many": lambda t: "FATAL:  sorry, too many clients already",
    "mysql: unique": lambda t: f"ERROR 1062 (23000): Duplicate entry '{t.word()}' for key 'users.email'",
    "mysql: gone": lambda t: "ERROR 2006 (HY000): MySQL server has gone away",
    "mysql: lock": lambda t: "ERROR 1205 (HY000): Lock wait timeout exceeded; try restarting transaction",
    "redis: moved": lambda t: f"MOVED {t.number()} 10.0.0.{t.rng.randrange(200)}:{t.port()}",
    "redis: wrong type": lambda t: "WRONGTYPE Operation against a key holding the wrong kind of value",
    "redis: memory": lambda t: "OOM command not allowed when used memory > 'maxmemory'.",
    "http: 429": lambda t: f"Request failed with status code 429: rate limit of {t.number()} requests exceeded for {t.id()}",
    "http: 500": lambda t: "Request failed with status code 500",
    "http: 503": lambda t: "Request failed with status code 503",
    "aws: denied": lambda t: f"AccessDenied: User: arn:aws:iam::{100_000_000_000 + t.number()}:user/{t.word()} is not authorized to perform: s3:GetObject (Request ID: {t.rng.getrandbits(64):016X})",
    "aws: missing": lambda t: f"NoSuchKey: The specified key does not exist. status code: 404, request id: {t.rng.getrandbits(64):016X}, host id: {t.rng.getrandbits(128):032x}",
    "smtp: unknown": lambda t: f"550 5.1.1 <{t.word()}@{t.host()}>: Recipient address rejected: User unknown in virtual mailbox table",
    "smtp: later": lambda t: f"421 4.7.0 {t.host()} Try again later, closing connection. {t.rng.getrandbits(40):010x}",
    "smtp: tls": lambda t: f"454 4.7.0 TLS not available due to local problem {t.id()}",
    "kafka": lambda t: f"org.apache.kafka.common.errors.TimeoutException: Topic {t.word()} not present in metadata after {t.number()} ms.",
    "docker": lambda t: f"Error response from daemon: No such container: {t.rng.getrandbits(48):012x}",
    "kubernetes": lambda t: f'Error from server (NotFound): pods "{t.word()}-{t.rng.getrandbits(20):05x}" not found',
    "killed": lambda t: f"Killed process {t.number()} (worker) total-vm:{t.number()}kB, anon-rss:{t.number()}kB",
    "exit": lambda t: f"worker {t.number()} exited with code 137",
    "stripe": lambda t: f"No such customer: 'cus_{t.rng.getrandbits(64):x}'",
    "ours": lambda t: f"Invoice {t.id()} of {t.word()} was not paid within {t.rng.randrange(90)} days",
    "elixir": lambda t: f"** (FunctionClauseError) no function clause matching in Shop.Mail.send/{t.rng.randrange(1, 4)}",
}  # fmt: skip


def provoke(times: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, text), each fault as often as that."""
    for n, (fault, text) in enumerate(TEXTS.items()):
        things = Things(seed + n)
        for _ in range(times):
            yield fault, text(things)
