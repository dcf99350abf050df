"""Servers and what befalls them: every fault is outlived, given up as a typed failure, or told in clear words."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from medembed.errors import InputError, RunError
from medembed.generate.client import Client, Failure, Reply, _retry_after
from medembed.generate.passages import Note
from medembed.generate.prompt import Prompt, Request
from medembed.recipe import Generate
from tests.fixtures.tgi import TGI

Outcome = Reply | Failure


def ask(*servers: TGI, requests: int = 1, **options: Any) -> list[Outcome]:
    """The outcomes of so many requests, sent at once to these servers by one client."""
    urls = [server.url for server in servers]
    settings = Generate.model_validate({"endpoints": urls, "attempts": 4, "timeout": 1, **options})
    prompt = Prompt(settings)

    async def all_of_them() -> list[Outcome]:
        async with Client(settings) as client:
            return await asyncio.gather(*(client.ask(about(prompt, n)) for n in range(requests)))

    return asyncio.run(all_of_them())


def about(prompt: Prompt, n: int) -> Request:
    passage = f"Plan: start aspirin {n} mg and review the patient in clinic after {n} weeks. Bloods on arrival."
    return prompt.request(Note(f"note-{n}", "", (passage,), "notes.jsonl", "cc0-1.0"))


@pytest.mark.parametrize("fault", ["429", "500", "503", "424", "reset", "stall", "cut", "no completion"])
def test_a_fault_in_passing_is_outlived(fault):
    with TGI(faults=[fault, fault]) as tgi:
        [outcome] = ask(tgi)
    assert isinstance(outcome, Reply) and json.loads(outcome.content)["pairs"]
    assert len(tgi.asked) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "429 overloaded"),
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


def test_a_refusal_is_permanent_and_not_asked_again():
    with TGI(faults=["422"]) as tgi:
        [outcome] = ask(tgi)
    assert outcome == Failure("422 validation", permanent=True, status=422)
    assert len(tgi.asked) == 1


def test_retry_after_is_honoured():
    with TGI(faults=["429"], headers={"Retry-After": "1"}) as tgi:
        started = time.monotonic()
        assert isinstance(ask(tgi)[0], Reply)
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("2.5", 2.5), ("99999", 600.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0)]
)
def test_no_retry_after_stops_a_run_for_long(header, seconds):
    assert _retry_after(header) == seconds


def test_a_refused_key_stops_the_run_at_once():
    with TGI(faults=["401"]) as tgi, pytest.raises(RunError, match=r"refuses the key \(401\)(.|\n)*MEDEMBED_API_KEY"):
        ask(tgi)
    assert len(tgi.asked) == 1


def test_the_key_comes_from_the_environment_and_a_hub_token_goes_to_no_other_host(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with TGI() as tgi:
        ask(tgi)
    assert set(tgi.keys) == {None}
    with TGI(key="sesame") as tgi:
        with pytest.raises(InputError, match="refuses the key"):
            ask(tgi)
        monkeypatch.setenv("MEDEMBED_API_KEY", "sesame")
        assert isinstance(ask(tgi)[0], Reply)


def test_an_unreachable_endpoint_is_told_before_any_work():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError, match="cannot be reached"):
            ask(endpoints=[url])


def test_a_server_that_does_not_enforce_the_schema_is_refused_at_the_start():
    for dialect in ("tgi", "openai"):
        with TGI(enforces=False, dialect=dialect) as tgi, pytest.raises(InputError, match="does not enforce"):
            ask(tgi)
        assert not tgi.asked


def test_a_server_that_names_no_model_is_refused():
    with TGI(dialect="openai") as tgi, pytest.raises(InputError, match="names no model"):
        ask(endpoints=[f"{tgi.url}/elsewhere"])


def test_tgi_gets_its_own_form_of_the_schema_and_no_adapter():
    with TGI() as tgi:
        ask(tgi)
        ask(endpoints=[f"{tgi.url}/v1"])
    for body in tgi.asked:
        assert body["response_format"]["type"] == "json_object" and "value" in body["response_format"]
        assert body["model"] == "tgi"


def test_another_server_gets_the_openai_form_and_the_name_of_its_model():
    with TGI(dialect="openai", model="org/llm") as vllm:
        [outcome] = ask(vllm)
    assert isinstance(outcome, Reply) and json.loads(outcome.content)["pairs"]
    assert vllm.asked[0]["model"] == "org/llm" and vllm.asked[0]["response_format"]["type"] == "json_schema"


def test_no_more_requests_are_in_flight_than_the_recipe_allows(make_recipe, generate):
    with TGI(seconds=0.2) as tgi:
        generate(make_recipe(15, endpoints=[tgi.url], concurrency=5))
    assert tgi.most_in_flight == 5


def test_two_endpoints_share_the_work():
    with TGI(seconds=0.02) as one, TGI(seconds=0.02) as other:
        outcomes = ask(one, other, requests=20)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert len(one.asked) == len(other.asked) == 10


def test_a_dead_endpoint_is_left_aside_and_the_other_does_the_work(make_recipe, generate):
    with TGI(seconds=0.01) as one, TGI(seconds=0.01) as other:
        recipe = make_recipe(30, endpoints=[one.url, other.url], attempts=3)
        one.faults = dies_after(one, 3)
        record, _ = generate(recipe)
    assert record.counts["pairs"] == 180 and len(other.asked) >= 26


def test_when_all_endpoints_are_gone_the_run_stops_and_later_goes_on(make_recipe, generate):
    with TGI(seconds=0.01) as tgi:
        recipe = make_recipe(20, endpoints=[tgi.url], attempts=2)
        tgi.faults = dies_after(tgi, 8)
        with pytest.raises(RunError, match="no endpoint answers any more"):
            generate(recipe)
        tgi.dead, tgi.faults, asked = False, [], len(tgi.asked)
        record, run = generate(recipe)
        assert record.counts["pairs"] == 120 and not record.rejects
        assert 20 - 8 <= len(tgi.asked) - asked <= 20 - 4
    statuses = [json.loads(line)["status"] for line in (run.folder / "journal.jsonl").open()]
    assert statuses == ["ok"] * 20


def test_endpoints_of_different_models_are_refused():
    with TGI() as one, TGI(sha=None) as other, pytest.raises(InputError, match="must serve the same model"):
        ask(one, other)


def dies_after(tgi: TGI, requests: int) -> Callable[[str], str]:
    def fault(_: str) -> str:
        tgi.dead = tgi.dead or len(tgi.asked) > requests
        return "reset" if tgi.dead else ""

    return fault
