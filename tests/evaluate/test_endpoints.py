"""Embedding models behind endpoints: a real client against strict loopback servers, in good days and bad."""

import time

import mteb
import numpy as np
import pytest

from medembed.errors import InputError, RunError
from medembed.evaluate import encoders
from medembed.evaluate.alone import measure_alone
from medembed.evaluate.endpoints import CONCURRENCY, Elsewhere, EndpointModel
from medembed.recipe import Endpoint, Evaluate, Model
from medembed.tasks import registry
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir
from tests.fixtures.embedding_server import EmbeddingServer, embedding

TEXTS = [f"acute pain number {n} in the left knee" for n in range(20)]
SECRET = "Mrs Miller has a secret"


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medembed.llm.outcomes.FIRST_PAUSE", 0.01)
    monkeypatch.delenv("MEDEMBED_API_KEY", raising=False)


def at(server: EmbeddingServer, batch_size: int = 32, **more: object) -> EndpointModel:
    return Elsewhere(Endpoint.model_validate({"endpoint": server.url, **more}), batch_size).encoder()


@pytest.mark.parametrize("kind", ["openai", "tei"])
def test_each_text_gets_its_own_embedding(kind) -> None:
    with EmbeddingServer(kind=kind) as server:
        found = at(server, 3).encode_document(TEXTS)
    assert found.dtype == np.float32
    assert np.array_equal(found, [embedding(text, 64) for text in TEXTS])
    assert len(server.asked) == 7


def test_a_model_is_who_its_server_says_it_is() -> None:
    with EmbeddingServer(kind="tei", models=("BAAI/bge-small-en-v1.5",)) as server:
        assert (at(server).resolved.name, at(server).resolved.revision) == ("BAAI/bge-small-en-v1.5", server.sha)
    with EmbeddingServer(models=("text-embedding-3-small", "text-embedding-3-large")) as server:
        found = at(server, model="text-embedding-3-small").resolved
        assert (found.name, found.revision) == ("endpoint/text-embedding-3-small", "as-served")
    with EmbeddingServer(models=("/home/somebody/models/bge",)) as server:
        assert at(server).resolved.name == "endpoint/bge"


def test_prompts_go_before_the_texts_of_their_side() -> None:
    with EmbeddingServer() as server:
        model = at(server, prompts={"query": "query: ", "passage": "passage: "})
        model.encode_query(["pain"])
        model.encode_document(["knee"])
    assert server.texts == ["query: pain", "passage: knee"]


def test_a_url_that_ends_as_openai_clients_have_it_is_the_same_server() -> None:
    with EmbeddingServer() as server:
        model = Elsewhere(Endpoint(endpoint=f"{server.url}/v1")).encoder()
        assert len(model.encode_query(TEXTS[:2])) == 2


@pytest.mark.parametrize("kind", ["openai", "tei"])
def test_what_fails_in_passing_is_asked_again(kind) -> None:
    with EmbeddingServer(kind=kind, faults=["429", "500", "503", "reset", "424", "garbage"]) as server:
        found = at(server, 10).encode_document(TEXTS)
    assert np.array_equal(found, [embedding(text, 64) for text in TEXTS])
    assert len(server.asked) == 8


def test_a_pause_is_as_long_as_the_server_wishes() -> None:
    with EmbeddingServer(faults=["429"], headers={"Retry-After": "0.4"}) as server:
        model, started = at(server), time.monotonic()
        model.encode_query(["pain"])
    assert time.monotonic() - started > 0.35


def test_a_server_that_never_answers_ends_the_work() -> None:
    with EmbeddingServer(faults=["503"] * 8) as server, pytest.raises(RunError, match=r"asked 8 times \(503\)"):
        at(server).encode_query(["pain"])


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    with EmbeddingServer(seconds=0.02) as server:
        at(server, 1).encode_document(TEXTS * 2)
    assert 1 < server.most_in_flight <= CONCURRENCY


def test_a_batch_is_no_larger_than_the_server_takes() -> None:
    with EmbeddingServer(kind="tei", batch=4) as server:
        at(server, 32).encode_document(TEXTS)
    assert [len(body["inputs"]) for body in server.asked] == [4] * 5


@pytest.mark.parametrize("options", [{"kind": "tei"}, {"owned_by": "vllm"}])
def test_long_texts_are_cut_where_the_server_can_cut_them(options) -> None:
    with EmbeddingServer(max_tokens=5, **options) as server:
        (found,) = at(server).encode_document(["pain " * 50])
    assert found.sum() == 5


def test_a_text_that_is_refused_is_told_without_a_word_of_it() -> None:
    with EmbeddingServer(max_tokens=5) as server, pytest.raises(RunError, match="cuts long texts") as caught:
        at(server).encode_document([SECRET * 9])
    assert "Miller" not in str(caught.value)
    assert len(server.asked) == 1


def test_an_empty_passage_has_an_embedding_too() -> None:
    with EmbeddingServer() as server:
        assert at(server).encode_document(["", "pain"]).shape == (2, 64)


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("fewer", "9 embeddings for 10 texts"),
        ("more", "11 embeddings for 10 texts"),
        ("ragged", "not rows of numbers"),
        ("nan", "not finite"),
        ("null", "not finite|not rows of numbers"),
        ("words", "not rows of numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["openai", "tei"])
def test_what_is_no_embedding_of_each_text_is_an_error(kind, fault, what) -> None:
    with EmbeddingServer(kind=kind, faults=[fault]) as server, pytest.raises(RunError, match=what):
        at(server).encode_document(TEXTS[:10])


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("dimensions", "128 dimensions now, and of 64 before"),
        ("other model", "another model than before"),
        ("twice", "places"),
    ],
)
def test_a_server_that_changes_midway_is_an_error(fault, what) -> None:
    with EmbeddingServer(faults=["", fault]) as server:
        model = at(server)
        model.encode_query(TEXTS[:2])
        with pytest.raises(RunError, match=what):
            model.encode_document(TEXTS)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddingServer(key="hush") as server:
        with pytest.raises(InputError, match="refuses the key") as caught:
            at(server)
        assert "MEDEMBED_API_KEY" in str(caught.value)
        monkeypatch.setenv("MEDEMBED_API_KEY", "hush")
        model = at(server)
        model.encode_query(["pain"])
        monkeypatch.setenv("MEDEMBED_API_KEY", "wrong")
        with pytest.raises(RunError, match="refuses the key"):
            model.encode_query(["pain"])


@pytest.mark.parametrize(
    ("options", "asked", "what"),
    [
        ({"models": ("a/one", "a/two")}, {}, "serves 2 models"),
        ({"models": ("a/one",)}, {"model": "a/won"}, "does not serve a/won"),
        ({"kind": "tei", "models": ("a/one",)}, {"model": "a/two"}, "serves a/one, not a/two"),
        ({"kind": "tei", "model_type": "reranker"}, {}, "no embedding model"),
        ({"kind": "tei"}, {"kind": "openai"}, "names no model at /v1/models"),
        ({"kind": "openai"}, {"kind": "tei"}, "Leave `kind` out"),
    ],
)
def test_a_server_of_something_else_is_told_before_any_text_is_sent(options, asked, what) -> None:
    with EmbeddingServer(**options) as server:
        with pytest.raises(InputError, match=what):
            at(server, **asked)
        assert not server.asked


def test_nobody_there_is_told() -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        Elsewhere(Endpoint(endpoint="http://127.0.0.1:9")).encoder()


def test_mteb_ranks_with_an_endpoint(tmp_path) -> None:
    with EmbeddingServer(dimensions=256) as server:
        encoder = Elsewhere(Endpoint(endpoint=server.url)).load()
        task = registry.load(str(write_beir(tmp_path / "mine")), ["eng"])
        cache = mteb.ResultCache(tmp_path / "cache")
        (result,) = mteb.evaluate(encoder, task, cache=cache, co2_tracker=False).task_results
    assert len(server.texts) == len(PASSAGES) + len(QUERIES)
    texts = [f"{title} {text}".strip() for _, title, text in PASSAGES]
    queries, passages = (np.array([embedding(text, 256) for text in side]) for side in ([q for _, q in QUERIES], texts))
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    best = [PASSAGES[i][0] for i in (queries @ passages.T).argmax(axis=1)]
    relevant = {(query, passage) for query, passage, grade in JUDGMENTS if grade}
    first = [(query, passage) in relevant for (query, _), passage in zip(QUERIES, best, strict=True)]
    assert result.scores["test"][0]["precision_at_1"] == pytest.approx(np.mean(first), abs=1e-4)
    assert list((tmp_path / "cache").glob("results/loopback__embedder/as-served/mine.json"))


def test_a_url_names_a_model_on_the_command_line() -> None:
    with EmbeddingServer(kind="tei") as server:
        model, resolved = encoders.find(server.url, allow_remote_code=False)
        assert (resolved.name, resolved.revision) == ("loopback/embedder", server.sha)
        assert len(model.encoder().encode_query(TEXTS[:2])) == 2
    with EmbeddingServer(models=("small", "large")) as server:
        model, resolved = encoders.find(f"{server.url}/v1#large", allow_remote_code=False, batch_size=3)
        assert resolved.name == "endpoint/large"
        model.encoder().encode_document(TEXTS[:7])
        assert sorted(len(body["input"]) for body in server.asked) == [1, 3, 3]
        assert {body["model"] for body in server.asked} == {"large"}
        with pytest.raises(InputError, match="--model URL#NAME"):
            encoders.find(f"{server.url}/v1", allow_remote_code=False)
    with pytest.raises(InputError, match="is no URL of an endpoint"):
        encoders.find("http://user:key@host", allow_remote_code=False)


def test_one_name_behind_two_servers_is_measured_twice_unless_both_tell_the_same_revision(tmp_path) -> None:
    task = str(write_beir(tmp_path / "mine"))
    for kind, measured in (("openai", 2), ("tei", 1)):
        asked = []
        for dimensions in (32, 64):
            with EmbeddingServer(kind=kind, dimensions=dimensions) as server:
                measure_alone(server.url, [task], tmp_path / kind, languages=["eng"], batch_size=8)
                asked.append(len(server.texts))
        assert [texts > 0 for texts in asked] == [number < measured for number in range(2)]


def test_a_recipe_names_models_and_endpoints_side_by_side() -> None:
    said = {"tasks": ["NFCorpus"], "compare": ["BAAI/bge-small-en-v1.5", {"endpoint": "http://localhost:8080/v1/"}]}
    model, endpoint = Evaluate.model_validate(said).compare
    assert isinstance(model, Model)
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.endpoint, endpoint.kind) == ("http://localhost:8080/v1", None)
    with pytest.raises(ValueError, match="keys come from the environment"):
        Evaluate.model_validate({"tasks": ["NFCorpus"], "compare": [{"endpoint": "http://key@host"}]})
