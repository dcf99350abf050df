"""Who a server is, which form of the JSON schema it gets, and what is told of one that cannot be used."""

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from medembed.errors import InputError
from medembed.llm.client import Client
from medembed.llm.outcomes import Reply, read_error, retry_after
from medembed.llm.servers import Identity
from medembed.recipe import Generate
from tests.fixtures.tgi import TGI
from tests.llm.asking import ask


def identities(*servers: TGI, among: int = 1, **options: object) -> tuple[Client, list[Identity]]:
    settings = Generate.model_validate({"endpoints": [server.url for server in servers], **options})

    async def connect() -> Client:
        async with Client(settings, among) as client:
            return client

    client = asyncio.run(connect())
    return client, [each.server.identity for each in client.endpoints]


def test_tgi_says_its_model_its_commit_and_its_limits():
    with TGI(slots=7) as tgi:
        client, [identity] = identities(tgi)
    assert identity == Identity(client.model, "tgi", "tgi", 7, 4096, 8192)
    assert client.model == f"{tgi.model}@{tgi.sha}"
    assert client.endpoints[0].window == 7


def test_a_name_that_utf_8_cannot_write_is_known_by_one_that_it_can():
    with TGI() as tgi:
        tgi.model = "org/half-\ud83d"
        client, _ = identities(tgi)
    assert client.model == f"org/half-?@{tgi.sha}"


def test_the_least_that_any_endpoint_states_is_the_limit_of_all():
    with TGI(dialect="openai") as one, TGI(dialect="openai", max_total_tokens=2048) as other:
        client, _ = identities(one, other)
    assert (client.max_input_tokens, client.max_total_tokens) == (None, 2048)
    assert [each.window for each in client.endpoints] == [32, 32]


def test_a_client_among_several_takes_its_share_of_each_endpoint_and_one_request_at_least():
    with TGI(slots=9) as tgi, TGI(dialect="openai") as vllm:
        windows = [
            [each.window for each in identities(server, among=among, **options)[0].endpoints]
            for server, among, options in (
                (tgi, 4, {}),
                (tgi, 4, {"concurrency": 8}),
                (tgi, 40, {}),
                (vllm, 4, {"concurrency": 60}),
            )
        ]
    assert windows == [[2], [2], [1], [15]]


def test_llama_cpp_is_known_by_what_it_says_and_states_its_slots_and_context():
    with TGI(dialect="llama.cpp", slots=3) as llama:
        _, [identity] = identities(llama)
    assert identity == Identity(llama.model, llama.model, "llamacpp", 3, None, 8192)


def test_tgi_gets_its_own_form_of_the_schema_and_no_adapter():
    with TGI() as tgi:
        ask(tgi)
        ask(endpoints=[f"{tgi.url}/v1"])
    for body in tgi.asked:
        assert body["response_format"]["type"] == "json_object" and "value" in body["response_format"]
        assert body["model"] == "tgi"


@pytest.mark.parametrize(
    ("dialect", "form"),
    [("openai", {"type", "json_schema"}), ("llama.cpp", {"type", "schema"}), ("nameless", {"type", "schema"})],
)
def test_every_other_server_gets_the_form_that_it_enforces_and_the_name_of_its_model(dialect, form):
    with TGI(dialect=dialect, model="org/llm") as server:
        [outcome] = ask(server)
    assert isinstance(outcome, Reply) and json.loads(outcome.content)["pairs"]
    assert server.asked[0]["model"] == "org/llm" and server.asked[0]["response_format"].keys() == form


@pytest.mark.parametrize("dialect", ["tgi", "openai", "llama.cpp", "nameless"])
def test_a_server_that_does_not_enforce_the_schema_is_refused_at_the_start(dialect):
    with TGI(enforces=False, dialect=dialect) as tgi, pytest.raises(InputError, match="does not enforce"):
        ask(tgi)
    assert not tgi.asked


@pytest.mark.parametrize("dialect", ["tgi", "openai", "nameless"])
def test_validate_only_goes_on_without_the_schema_and_says_so(dialect, caplog):
    with TGI(enforces=False, dialect=dialect) as tgi:
        [outcome] = ask(tgi, schema="validate-only")
    assert outcome.content == "A lovely day."
    assert not tgi.asked[0].get("response_format")
    assert "does not enforce the JSON schema" in caplog.text


def test_validate_only_still_sends_the_schema_to_a_server_that_enforces_it(caplog):
    with TGI() as tgi:
        ask(tgi, schema="validate-only")
    assert tgi.asked[0]["response_format"] and not caplog.text


def test_a_server_that_names_no_model_is_refused():
    with TGI(dialect="openai") as tgi, pytest.raises(InputError, match="names no model"):
        ask(endpoints=[f"{tgi.url}/elsewhere"])


def test_endpoints_that_cannot_be_used_are_told_all_at_once_before_any_work():
    with socket.socket() as closed, TGI(enforces=False) as lax, TGI() as good:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError) as raised:
            ask(endpoints=[url, lax.url, good.url])
    assert [fault.where for fault in raised.value.faults] == [f"{url}/info", lax.url]
    assert "cannot be reached" in str(raised.value) and "does not enforce" in str(raised.value)


def test_endpoints_of_different_models_are_refused():
    with TGI() as one, TGI(sha=None) as other, pytest.raises(InputError, match="must serve the same model"):
        ask(one, other)


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


@pytest.mark.parametrize("kind", ["overloaded", "Patient Doe", 5, ["overloaded"], None])
def test_no_server_makes_up_reasons(kind):
    failure = read_error(httpx2.Response(429, json={"error_type": kind}))
    assert failure.reason == ("429 overloaded" if kind == "overloaded" else "429")


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("2.5", 2.5), ("99999", 600.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0)]
)
def test_no_retry_after_stops_a_run_for_long(header, seconds):
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date():
    in_a_minute, long_gone, far = (datetime.now(UTC) + timedelta(seconds=s) for s in (60, -60, 10**7))
    assert 50 < retry_after(format_datetime(in_a_minute, usegmt=True)) <= 60
    assert retry_after(format_datetime(long_gone, usegmt=True)) == 0
    assert retry_after(format_datetime(far, usegmt=True)) == 600
    assert retry_after("Mon, 99 Foo 2026 25:00:00") == retry_after("23 Nov 2026 10:00:00") == 0
