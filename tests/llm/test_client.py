"""Several servers and what befalls them: every fault is outlived, given up as a typed failure, or told in clear words."""

import json
import threading
import time
from collections.abc import Callable

import pytest

from medembed.errors import RunError
from medembed.llm.client import Client
from medembed.llm.endpoints import UNSTATED
from medembed.llm.outcomes import Failure, Reply
from tests.fixtures.tgi import TGI
from tests.llm.asking import ask, dies_after


@pytest.mark.parametrize("fault", ["429", "404", "500", "503", "424", "reset", "stall", "cut", "no completion"])
def test_a_fault_in_passing_is_outlived(fault):
    with TGI(faults=[fault, fault]) as tgi:
        [outcome] = ask(tgi)
    assert isinstance(outcome, Reply) and json.loads(outcome.content)["pairs"]
    assert len(tgi.asked) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("424", "424 generation"),
        ("500", "500 incomplete_generation"),
        ("reset", "connection failed"),
        ("stall", "timed out"),
        ("cut", "connection failed"),
        ("no completion", "no chat completion in the answer"),
    ],
)
def test_a_fault_that_does_not_pass_ends_as_a_failure_that_may_be_asked_again(fault, reason):
    with TGI(faults=[fault] * 9) as tgi:
        [outcome] = ask(tgi, attempts=2, timeout=0.5)
    assert isinstance(outcome, Failure) and not outcome.permanent and outcome.reason.startswith(reason)
    assert len(tgi.asked) == 2


@pytest.mark.parametrize("fault", ["garbage", "wrong schema", "control characters", "null"])
def test_what_a_reply_says_is_not_the_clients_business(fault):
    with TGI(faults=[fault]) as tgi:
        [outcome] = ask(tgi)
    assert isinstance(outcome, Reply) and len(tgi.asked) == 1


def test_a_refusal_is_permanent_and_not_asked_again():
    with TGI(faults=["422"]) as tgi:
        [outcome] = ask(tgi)
    assert outcome == Failure("422 validation", permanent=True, status=422)
    assert len(tgi.asked) == 1


def test_retry_after_is_honoured_and_rests_the_endpoint():
    with TGI(faults=["429"], headers={"Retry-After": "1"}, slots=1) as tgi:
        started = time.monotonic()
        assert all(isinstance(outcome, Reply) for outcome in ask(tgi, requests=3))
    assert time.monotonic() - started >= 1
    assert len(tgi.asked) == 4


def test_a_refused_key_stops_the_run_at_once():
    with TGI(faults=["401"]) as tgi, pytest.raises(RunError, match=r"refuses the key \(401\)(.|\n)*MEDEMBED_API_KEY"):
        ask(tgi)
    assert len(tgi.asked) == 1


# ---- truncated replies -----------------------------------------------------------------------------------------------


def test_a_truncated_reply_is_asked_for_once_more_with_twice_the_budget():
    with TGI(needs=1500) as tgi:
        [outcome] = ask(tgi, max_tokens=1000)
    assert isinstance(outcome, Reply) and (outcome.finish_reason, outcome.max_tokens) == ("stop", 2000)
    assert [body["max_tokens"] for body in tgi.asked] == [1000, 2000]


def test_the_second_reply_is_the_outcome_though_it_be_truncated_too():
    with TGI(needs=4000) as tgi:
        [outcome] = ask(tgi, max_tokens=1000)
    assert isinstance(outcome, Reply) and (outcome.finish_reason, outcome.max_tokens) == ("length", 2000)
    assert len(tgi.asked) == 2


def test_the_larger_budget_ends_where_the_servers_limit_does():
    with TGI(needs=1200, max_total_tokens=2000) as tgi:
        [outcome] = ask(tgi, max_tokens=1000)
    assert isinstance(outcome, Reply) and outcome.finish_reason == "stop"
    assert outcome.max_tokens == tgi.asked[1]["max_tokens"] == 2000 - outcome.usage["prompt_tokens"]


def test_a_truncated_reply_stands_where_the_server_has_no_more_to_give():
    with TGI(needs=1500, max_total_tokens=1900, dialect="nameless") as server:  # which states no limit
        [outcome] = ask(server, max_tokens=1000)
    assert isinstance(outcome, Reply) and (outcome.finish_reason, outcome.max_tokens) == ("length", None)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_no_more_requests_are_in_flight_than_the_recipe_allows():
    with TGI(seconds=0.05, rounds=[5]) as tgi:
        ask(tgi, requests=20, concurrency=5, timeout=30)
    assert tgi.most_in_flight == 5


def test_a_window_begins_with_what_the_server_says_it_takes():
    with TGI(seconds=0.1, slots=12, rounds=[12]) as tgi:
        ask(tgi, requests=40, timeout=30)
    assert tgi.most_in_flight == 12
    assert len(tgi.asked) == 40  # and so none was refused


def test_a_window_grows_while_a_server_that_states_no_limit_answers():
    with TGI(rounds=[32, 36], dialect="openai") as vllm:
        widths = watched(lambda client: client.endpoints[0].window, vllm, requests=80, timeout=30)
    assert widths[0] == 32 and widths == sorted(widths)
    assert vllm.most_in_flight >= 36


def test_a_window_shrinks_to_what_the_server_takes_in_truth_and_all_is_answered():
    with TGI(seconds=0.15, slots=8, dialect="openai") as server:
        widths = watched(lambda client: client.endpoints[0].window, server, requests=150, attempts=1)
    assert widths[-1] <= 16 < UNSTATED


def test_a_storm_of_429_uses_up_no_attempts_and_does_not_close_the_window():
    with TGI(faults=["429"] * 48, slots=48, seconds=0.05) as tgi:  # all that is in flight, once
        widths = watched(lambda client: client.endpoints[0].window, tgi, requests=60, attempts=1, timeout=30)
    assert 24 <= min(widths) < 48


def test_requests_are_taken_only_as_there_is_room_for_them(monkeypatch):
    taken = ended = most = 0

    def watch(_: Client) -> None:
        nonlocal ended, most
        ended += 1
        most = max(most, taken - ended)

    def counted(prompt, requests):
        nonlocal taken
        for taken, request in enumerate(about_notes(prompt, requests), 1):  # noqa: B007
            yield request

    from tests.llm import asking
    from tests.llm.asking import about_notes

    monkeypatch.setattr(asking, "about_notes", counted)
    with TGI(seconds=0.01) as tgi:
        ask(tgi, requests=40, concurrency=4, watch=watch)
    assert taken == 40 and most <= 4


# ---- several endpoints -----------------------------------------------------------------------------------------------


def test_two_endpoints_share_the_work():
    with TGI(seconds=0.02) as one, TGI(seconds=0.02) as other:
        outcomes = ask(one, other, requests=20)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert len(one.asked) == len(other.asked) == 10


def test_each_endpoint_gets_as_much_as_it_works_off():
    with TGI(seconds=0.3, slots=4) as quick, TGI(seconds=1.2, slots=4) as slow:
        ask(quick, slow, requests=40, timeout=30)
    assert 27 <= len(quick.asked) <= 34  # an equal share would be 20


def test_a_request_that_failed_goes_to_another_endpoint():
    with TGI(faults=["500"] * 99) as bad, TGI() as good:
        [outcome] = ask(bad, good, concurrency=1)
    assert isinstance(outcome, Reply)
    assert len(bad.asked) == len(good.asked) == 1


def test_an_endpoint_that_fails_at_once_does_not_draw_all_requests_to_itself():
    with TGI(faults=lambda _: "500") as bad, TGI(seconds=0.01) as good:
        outcomes = ask(bad, good, requests=60, attempts=3, concurrency=8)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert len(bad.asked) <= 30


def test_an_endpoint_that_dies_for_good_is_set_aside_and_the_other_does_the_work():
    with TGI(seconds=0.01) as one, TGI(seconds=0.01) as other:
        one.faults = dies_after(one, 3)
        resting = watched(lambda client: client.endpoints[0].resting, one, other, requests=60, attempts=3)
    assert len(other.asked) >= 56 and resting[-1]


def test_an_endpoint_that_dies_and_returns_is_used_again():
    with TGI(seconds=0.01, slots=4) as one, TGI(seconds=0.01, slots=4) as other:
        one.faults = dies_after(one, 10)
        resting = []

        def watch(client: Client) -> None:
            resting.append(client.endpoints[0].resting)
            if resting[-1] and len(other.asked) > 60 and one.dead:
                one.dead, one.faults = False, []

        ask(one, other, requests=400, watch=watch)
    assert True in resting and not resting[-1]
    assert len(one.asked) > 30


def test_the_only_endpoint_may_be_away_for_a_while_and_no_request_pays_for_it(caplog):
    with TGI(seconds=0.01, slots=4) as tgi:

        def returns() -> None:
            while "no endpoint answers" not in caplog.text:
                time.sleep(0.02)
            tgi.open()

        back = threading.Thread(target=returns, daemon=True)

        def watch(_: Client) -> None:
            if len(tgi.asked) > 20 and not tgi.dead and not back.ident:
                tgi.close()
                back.start()

        outcomes = ask(tgi, requests=60, watch=watch, attempts=2)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert caplog.text.count("no endpoint answers; waiting up to") == 1


def test_a_server_that_only_refuses_is_given_up_after_patience():
    def watch(_: Client) -> None:
        tgi.slots = 0

    with TGI(slots=2) as tgi, pytest.raises(RunError, match="no endpoint answers any more"):
        ask(tgi, requests=9, patience=0.2, watch=watch)


def test_a_request_that_is_refused_while_others_are_answered_is_given_up_after_patience():
    with TGI(faults=lambda text: "429" if "aspirin 0 mg" in text else "", seconds=0.02, slots=2) as tgi:
        first, *others = ask(tgi, requests=100, patience=0.3)
    assert isinstance(first, Failure) and first.status == 429 and not first.permanent
    assert all(isinstance(outcome, Reply) for outcome in others)


# ---- a server that changes its model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["tgi", "openai"])
def test_a_reply_of_another_model_stops_the_run_and_counts_for_nothing(dialect):
    ended = []
    with (
        TGI(faults=["", "", "other model"], dialect=dialect) as tgi,
        pytest.raises(RunError, match="answers as loopback/other now"),
    ):
        ask(tgi, requests=9, concurrency=1, watch=lambda _: ended.append(1))
    assert len(ended) == 2


def test_a_server_that_comes_back_with_other_weights_stops_the_run():
    with TGI(seconds=0.01, slots=4) as tgi:

        def restarts(_: str) -> str:
            if len(tgi.asked) == 12:
                tgi.sha = "f" * 40  # of which a reply says nothing
            return "reset" if 12 <= len(tgi.asked) < 25 else ""

        tgi.faults = restarts
        with pytest.raises(RunError, match="answers as loopback/clinical-70b@ffff"):
            ask(tgi, requests=60)


def watched(look: Callable[[Client], object], *servers: TGI, **settings: object) -> list:
    """What `look` saw of the client each time a request had ended, all of them with a reply."""
    seen: list = []
    outcomes = ask(*servers, watch=lambda client: seen.append(look(client)), **settings)  # type: ignore[arg-type]
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    return seen
