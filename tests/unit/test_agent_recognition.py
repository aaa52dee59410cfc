"""Which answers the agent takes for the API's own."""

import pytest

from agent.docker_job_agent.api import is_alive, is_decided, is_ours, is_over
from agent.docker_job_agent.http_client import Answer
from agent.docker_job_agent.recognition import ANSWER, Call, Recognition, new_call

CALL = Call("a1")
FORBIDDEN = '{"message": "Forbidden"}'


def judged(recognition: Recognition, status: int, text: str, mark: str | None = None) -> Answer:
    headers = {} if mark is None else {ANSWER: mark}
    return recognition.judge(Answer(status, text, headers), CALL)


def test_every_call_has_a_mark_of_its_own() -> None:
    calls = {new_call() for _ in range(100)}
    assert len(calls) == 100
    assert all(call.headers == {"X-Docker-Job-Call": call.value} for call in calls)


def test_until_the_first_mark_the_form_counts() -> None:
    recognition = Recognition()
    assert is_over(judged(recognition, 403, FORBIDDEN))
    assert is_decided(judged(recognition, 200, "{}"))
    assert not is_decided(judged(recognition, 403, "<html>"))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, "{}"),
        (202, '{"wait": "why", "retry_seconds": 1}'),
        (401, FORBIDDEN),
        (403, FORBIDDEN),
        (404, FORBIDDEN),
        (409, '{"message": "over", "stop": true, "cause": "lost"}'),
    ],
)
def test_from_the_first_mark_on_no_other_answer_counts(status: int, text: str) -> None:
    recognition = Recognition()
    judged(recognition, 200, "{}", "a1")
    for mark in (None, "", "another"):
        answer = judged(recognition, status, text, mark)
        assert (is_ours(answer), is_decided(answer), is_over(answer)) == (False, False, False)
    assert is_decided(judged(recognition, status, text, "a1"))


def test_the_answer_to_another_call_never_counts() -> None:
    recognition = Recognition()
    assert not is_ours(judged(recognition, 200, "{}", "b2"))
    assert not recognition.marked


def test_a_mark_alone_makes_no_answer() -> None:
    recognition = Recognition()
    for status, text in ((200, "<html>"), (302, "{}"), (403, '{"error": 1}'), (409, FORBIDDEN)):
        assert not is_ours(judged(recognition, status, text, "a1")), status


def test_an_unmarked_refusal_counts_once_it_has_lasted() -> None:
    at = [0.0]
    recognition = Recognition(lambda: at[0])
    for seconds, ours in ((0.0, False), (29.0, False), (30.0, True), (31.0, True)):
        at[0] = seconds
        assert is_over(recognition.doubt(Answer(403, FORBIDDEN))) is ours, seconds
    recognition.doubt(Answer(200, "{}"))
    assert not is_over(recognition.doubt(Answer(401, FORBIDDEN)))


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, "{}"), (400, FORBIDDEN), (413, FORBIDDEN), (409, '{"message": "over", "stop": true}')],
)
def test_what_no_gateway_makes_counts_at_once(status: int, text: str) -> None:
    assert is_decided(Recognition().doubt(Answer(status, text)))


def test_a_marked_refusal_counts_at_once() -> None:
    recognition = Recognition()
    answer = judged(recognition, 401, FORBIDDEN, "a1")
    assert is_over(recognition.doubt(answer))


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (Answer(200, '{"status": "alive"}'), True),
        (Answer(200, '{"status":"ok"}'), False),
        (Answer(200, "ok"), False),
        (Answer(403, FORBIDDEN), False),
    ],
)
def test_the_api_is_known_by_its_health(answer: Answer, *, alive: bool) -> None:
    assert is_alive(answer) is alive
