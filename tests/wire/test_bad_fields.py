"""A field of a push that is wrong is refused with its name, and nothing is pushed."""

import pytest

from tests.wire.client import Client, ok, refused

DAY_MS = 24 * 60 * 60 * 1000

NUMBERS = ["priority", "delay", "maxAttempts", "backoff", "ttl", "timeout"]
STRINGS = ["jobId", "uniqueKey", "groupId"]
BOOLEANS = ["lifo", "removeOnComplete", "removeOnFail", "durable"]
LISTS = ["tags", "dependsOn"]


def refuse_push(client: Client, queue: str, **body: object) -> str:
    """Push what must be refused; return the error once it is sure that no job came of it."""
    error = refused(client.try_push(queue, **{"data": 1, **body}))
    assert client.pull(queue) is None
    return error


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", ["5", "", True, False, [], [1], {}])
def test_a_number_field_takes_only_numbers(client: Client, queue: str, field: str, value: object) -> None:
    error = refuse_push(client, queue, **{field: value})
    if field == "backoff":  # which may be an object, too
        assert error == ("backoff.type is required" if value == {} else "backoff must be a number or an object")
    else:
        assert error in {f"{field} must be a number", f"{field} must be an integer"}


@pytest.mark.parametrize("field", STRINGS)
@pytest.mark.parametrize("value", [5, 1.5, True, [], ["a"], {}])
def test_a_string_field_takes_only_strings(client: Client, queue: str, field: str, value: object) -> None:
    assert refuse_push(client, queue, **{field: value}) == f"{field} must be a string"


@pytest.mark.parametrize("field", BOOLEANS)
@pytest.mark.parametrize("value", [0, 1, "true", "", [], {}])
def test_a_boolean_field_takes_only_booleans(client: Client, queue: str, field: str, value: object) -> None:
    assert refuse_push(client, queue, **{field: value}) == f"{field} must be a boolean"


@pytest.mark.parametrize("field", LISTS)
@pytest.mark.parametrize("value", ["a", 1, True, {}, [1], ["a", 1], [["a"]], [True], [{}]])
def test_a_list_field_takes_only_arrays_of_strings(client: Client, queue: str, field: str, value: object) -> None:
    assert refuse_push(client, queue, **{field: value}) == f"{field} must be an array of strings"


@pytest.mark.parametrize("value", ["hourly", 5, True, [], [60_000]])
def test_repeat_takes_only_an_object(client: Client, queue: str, value: object) -> None:
    assert "repeat" in refuse_push(client, queue, repeat=value)


@pytest.mark.parametrize("value", ["60000", True, [], {}])
def test_the_numbers_of_a_repeat_are_numbers(client: Client, queue: str, value: object) -> None:
    assert "every" in refuse_push(client, queue, repeat={"every": value})
    assert "limit" in refuse_push(client, queue, repeat={"every": 60_000, "limit": value})


@pytest.mark.parametrize(
    ("field", "least"),
    [("priority", -1_000_000), ("delay", 0), ("maxAttempts", 1), ("backoff", 0), ("ttl", 0)],
)
def test_a_number_below_its_range_is_refused(client: Client, queue: str, field: str, least: int) -> None:
    assert refuse_push(client, queue, **{field: least - 1}) == f"{field} must be at least {least}"
    assert refuse_push(client, queue, **{field: -(2**70)}) == f"{field} must be at least {least}"


def test_a_negative_timeout_is_refused(client: Client, queue: str) -> None:
    assert refuse_push(client, queue, timeout=-1).startswith("timeout must be at least ")


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("priority", 1_000_000),
        ("delay", 365 * DAY_MS),
        ("maxAttempts", 1000),
        ("backoff", DAY_MS),
        ("ttl", 365 * DAY_MS),
        ("timeout", DAY_MS),
    ],
)
def test_a_number_above_its_range_is_refused(client: Client, queue: str, field: str, most: int) -> None:
    assert refuse_push(client, queue, **{field: most + 1}) == f"{field} must be at most {most}"
    assert refuse_push(client, queue, **{field: 2**70}) == f"{field} must be at most {most}"


@pytest.mark.parametrize("every", [0, -1, 365 * DAY_MS + 1, 2**70])
def test_an_interval_out_of_range_is_refused(client: Client, queue: str, every: int) -> None:
    assert "every" in refuse_push(client, queue, repeat={"every": every})


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(client: Client, queue: str, limit: int) -> None:
    assert "limit" in refuse_push(client, queue, repeat={"every": 60_000, "limit": limit})


@pytest.mark.parametrize("field", STRINGS)
@pytest.mark.parametrize("value", ["", "x" * 257, "日" * 257])
def test_a_text_out_of_range_is_refused(client: Client, queue: str, field: str, value: str) -> None:
    assert field in refuse_push(client, queue, **{field: value})


@pytest.mark.parametrize("field", STRINGS)
def test_the_length_of_a_text_is_counted_in_characters(client: Client, queue: str, field: str) -> None:
    value = ("日" * 200 + queue)[:256].ljust(256, "日")
    assert client.is_known(client.push(queue, **{field: value}))


@pytest.mark.parametrize(("field", "count"), [("tags", 101), ("dependsOn", 1001)])
def test_a_list_that_is_too_long_is_refused(client: Client, queue: str, field: str, count: int) -> None:
    assert field in refuse_push(client, queue, **{field: ["x"] * count})


@pytest.mark.slow
def test_a_thousand_dependencies_are_taken(client: Client, queue: str) -> None:
    ids = client.push_bulk("children-" + queue, [{"data": n} for n in range(1000)])
    parent = client.push(queue, dependsOn=ids)
    assert client.state(parent) == "waiting-children"


def test_a_fraction_is_no_integer(client: Client, queue: str) -> None:
    assert refuse_push(client, queue, maxAttempts=1.5) == "maxAttempts must be an integer"
    assert "limit" in refuse_push(client, queue, repeat={"every": 60_000, "limit": 1.5})


@pytest.mark.parametrize("text", ["2.0", "2.000", "2e0", "0.2e1", "20E-1"])
def test_an_integer_may_be_written_with_a_point(client: Client, queue: str, text: str) -> None:
    job_id = ok(client.push_text(queue, f'{{"data":1,"maxAttempts":{text},"priority":{text}}}'))["id"]
    response = client.get(f"/jobs/{job_id}")
    job = response.json()["job"]
    assert (job["maxAttempts"], job["priority"]) == (2, 2)
    assert type(job["maxAttempts"]) is int


def test_times_are_shown_as_integers_however_they_were_written(client: Client, queue: str) -> None:
    job_id = ok(client.push_text(queue, '{"data":1,"delay":60000.0,"backoff":2.0e3}'))["id"]
    job = client.job(job_id)
    assert type(job["runAt"]) is int
    assert job["runAt"] == job["createdAt"] + 60_000
    assert (job["backoff"], type(job["backoff"])) == (2000, int)


def test_minus_zero_is_zero(client: Client, queue: str) -> None:
    job_id = ok(client.push_text(queue, '{"data":1,"priority":-0,"delay":-0.0}'))["id"]
    assert client.take(queue).id == job_id


def test_missing_data_is_refused(client: Client, queue: str) -> None:
    for body in ("{}", '{"priority":1}', '{"Data":1}', '{"payload":{}}'):
        refused(client.push_text(queue, body), 400, "data is required")
    assert client.pull(queue) is None


def test_unknown_fields_are_ignored(client: Client, queue: str) -> None:
    job_id = client.push(
        queue,
        {"n": 1},
        attempts=9,
        progress=50,
        state="completed",
        createdAt=0,
        id="other",
        queue="other",
        foo=[{"bar": None}],
        Priority=5,
    )
    assert job_id != "other"
    job = client.job(job_id)
    assert (job["attempts"], job["progress"], job["priority"], job["queue"]) == (0, 0, 0, queue)
    assert job["createdAt"] > 0


def test_a_queue_named_in_the_body_does_not_count(client: Client, queue: str) -> None:
    job_id = client.push(queue, queue="other-" + queue, cmd="PULL", reqId=7)
    assert client.pull("other-" + queue) is None
    assert client.take(queue).id == job_id


def test_the_last_of_duplicate_keys_wins(client: Client, queue: str) -> None:
    body = (
        '{"data":1e999,"priority":"x","tags":5,"lifo":true,"repeat":7,'
        '"data":{"n":2},"priority":5,"tags":["t"],"lifo":false,"repeat":null}'
    )
    job = client.job(ok(client.push_text(queue, body))["id"])
    assert (job["data"], job["priority"], job["tags"], job["lifo"]) == ({"n": 2}, 5, ["t"], False)


def test_a_bad_value_that_comes_last_is_refused(client: Client, queue: str) -> None:
    response = client.push_text(queue, '{"data":1,"priority":5,"priority":"x"}')
    assert refused(response).startswith("priority must be a")
    assert client.pull(queue) is None


def test_duplicate_keys_that_differ_in_spelling_are_one_key(client: Client, queue: str) -> None:
    body = r'{"data":1,"priority":3,"pri\u006frity":4}'
    assert client.job(ok(client.push_text(queue, body))["id"])["priority"] == 4
