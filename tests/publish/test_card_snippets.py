"""The snippets of a model's card are run as they stand on the page, and give what the model itself gives."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medembed.publish.cards import model_card
from tests.fixtures.embedding_server import EmbeddingServer, embedding
from tests.fixtures.hub import WRITER, Hub
from tests.publish.manifests import QUERY, dense, late

PROMPTS = {"query": QUERY, "document": "passage: "}
PLAIN = {
    "modules": ["Transformer", "Pooling", "Normalize"],
    "pooling": "mean",
    "max_length": 64,
    "similarity": "cosine",
}
ASKED = "chest pain that spreads to the left arm"
HEART = "Retrosternal pain radiating to the left arm or jaw suggests an acute coronary syndrome."
HEAD = "Migraine is a unilateral, pulsating headache, often with nausea and photophobia."


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder in which the tiny model lies as `tiny-embed`, with prompts of its own, and as `tiny-colbert`."""
    from sentence_transformers import SentenceTransformer

    from medembed import models
    from medembed.recipe import Model

    folder = tmp_path_factory.mktemp("published")
    SentenceTransformer(str(tiny_model), prompts=PROMPTS).save_pretrained(str(folder / "tiny-embed"))
    colbert = models.load(Model(model=str(tiny_model)), device="cpu", method="late-interaction")
    colbert.save_pretrained(str(folder / "tiny-colbert"), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def expected(published: Path) -> Any:
    """The scores (1, 2) of the two passages, by the model itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(published / "tiny-embed"))
    return model.similarity(model.encode_query([ASKED]), model.encode_document([HEART, HEAD])).numpy()


@pytest.fixture
def there(published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the folder of the card is the one that it names; libraries keep their caches apart."""
    monkeypatch.chdir(published)
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(tmp_path))


def card(repo: str | None = None, **embeds: Any) -> str:
    made = dense()
    made["recipe"]["publish"] = {"repo": repo} if repo else {"folder": "tiny-embed"}
    made["stages"]["train"]["facts"]["model"] = PLAIN | {"prompts": PROMPTS} | embeds
    return model_card(made)


def snippets(text: str, language: str = "python") -> dict[str, list[str]]:
    """Heading or summary → the blocks of code below it."""
    found: dict[str, list[str]] = {}
    title = ""
    for part in re.findall(
        rf"^#+ ([^\n]+)$|<summary>([^\n]+)</summary>|```{language}\n(.*?)```", text, re.MULTILINE | re.DOTALL
    ):
        title = part[0] or part[1] or title
        if part[2]:
            found.setdefault(title, []).append(part[2])
    return found


def run(code: str, *packages: str) -> dict[str, Any]:
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed: `pip install 'medembed[dev]'`")
    known: dict[str, Any] = {}
    exec(compile(code, "<card>", "exec"), known)
    return known


def test_every_snippet_of_the_card_is_run_by_a_test_here() -> None:
    tried = {"Use", "transformers alone", "ONNX Runtime", "text-embeddings-inference", "LangChain", "LlamaIndex"}
    assert set(snippets(card())) == tried | {"A vector database: Qdrant", "Smaller embeddings"}
    assert set(snippets(model_card(late()))) == {"Use", "A vector database: Qdrant"}
    assert set(snippets(card(), "bash")) == {"Use", "text-embeddings-inference", "How to repeat it"}


@pytest.mark.usefixtures("there")
def test_sentence_transformers_puts_the_prompts_before_the_texts(expected: Any) -> None:
    known = run(snippets(card())["Use"][0])
    assert np.allclose(known["scores"], expected, atol=1e-6)
    bare = known["model"].similarity(known["model"].encode([ASKED]), known["model"].encode([HEART, HEAD]))
    assert not np.allclose(bare, expected, atol=1e-4)  # so the prompts do something here


@pytest.mark.usefixtures("there")
def test_transformers_alone_gives_the_same(expected: Any) -> None:
    assert np.allclose(run(snippets(card())["transformers alone"][0])["scores"], expected, atol=1e-5)


@pytest.mark.usefixtures("there")
def test_transformers_alone_pools_by_the_first_token_where_the_model_does(published: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [
        Transformer(str(published / "tiny-embed"), max_seq_length=64),
        Pooling(32, pooling_mode="cls"),
        Normalize(),
    ]
    model = SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu")
    known = run(snippets(card(pooling="cls"))["transformers alone"][0])
    assert np.allclose(known["query_embeddings"], model.encode_query([ASKED]), atol=1e-5)
    assert np.allclose(known["passage_embeddings"], model.encode_document([HEART, HEAD]), atol=1e-5)


def test_a_model_that_is_more_than_a_transformer_and_a_pooling_is_not_shown_with_transformers_alone() -> None:
    for embeds in ({"pooling": "lasttoken"}, {"pooling": None}, {"modules": ["Transformer", "Pooling", "Dense"]}):
        shown = snippets(card(**embeds))
        assert "transformers alone" not in shown and "Use" in shown


@pytest.mark.usefixtures("there")
def test_onnx_runtime_gives_the_same(published: Path, expected: Any) -> None:
    pytest.importorskip("onnx", reason="onnx writes the file, and is not installed")
    from sentence_transformers import SentenceTransformer

    from medembed.export import files, graph

    path = published / "tiny-embed" / files.PLAIN
    path.parent.mkdir(exist_ok=True)
    graph.write(SentenceTransformer("tiny-embed", device="cpu"), path)
    assert np.allclose(run(snippets(card())["ONNX Runtime"][0], "onnxruntime")["scores"], expected, atol=1e-5)


def test_no_export_no_snippet_for_it() -> None:
    made = dense()
    for file in made["stages"]["export"]["facts"]["files"].values():
        file["published"] = False
    assert "ONNX Runtime" not in snippets(model_card(made))


@pytest.fixture
def tei() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(kind="tei", prompts=PROMPTS) as server:
        yield server


def test_text_embeddings_inference_is_asked_with_the_prompts_by_name(tei: EmbeddingServer) -> None:
    code = snippets(card())["text-embeddings-inference"][0]
    known = run(code.replace("http://127.0.0.1:8080", tei.url))
    assert known["scores"].shape == (1, 2)
    assert np.allclose(known["query_embeddings"], [embedding(QUERY + ASKED, 64)])
    assert np.allclose(known["passage_embeddings"], [embedding("passage: " + text, 64) for text in (HEART, HEAD)])


def test_text_embeddings_inference_is_asked_by_curl(tei: EmbeddingServer) -> None:
    _, command = snippets(card(), "bash")["text-embeddings-inference"]
    done = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8080", tei.url)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [embedding(QUERY + ASKED, 64)]


def test_the_container_gets_the_repository_or_the_folder() -> None:
    on_hub, in_folder = (
        snippets(it, "bash")["text-embeddings-inference"][0] for it in (card("medembed/tiny-embed"), card())
    )
    assert on_hub.split()[-2:] == ["--model-id", "medembed/tiny-embed"]
    assert '-v "$PWD/tiny-embed:/model"' in in_folder and in_folder.split()[-1] == "/model"


@pytest.mark.usefixtures("there")
def test_langchain_embeds_queries_and_passages_each_with_its_prompt(expected: Any) -> None:
    known = run(snippets(card())["LangChain"][0], "langchain_core")
    found = {document.page_content: score for document, score in known["scores"]}
    assert [found[HEART], found[HEAD]] == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.usefixtures("there")
def test_llamaindex_embeds_queries_and_passages_each_with_its_prompt(expected: Any) -> None:
    known = run(
        snippets(card())["LlamaIndex"][0],
        "llama_index.embeddings.huggingface",
    )
    found = {hit.text: hit.score for hit in known["scores"]}
    assert [found[HEART], found[HEAD]] == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.usefixtures("there")
def test_qdrant_ranks_as_the_model_does(expected: Any) -> None:
    known = run(snippets(card())["A vector database: Qdrant"][0], "qdrant_client")
    found = {hit.payload["text"]: hit.score for hit in known["scores"]}
    assert [found[HEART], found[HEAD]] == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.usefixtures("there")
def test_smaller_embeddings_are_as_small_as_the_card_says() -> None:
    known = run(snippets(card())["Smaller embeddings"][0])
    assert known["embeddings"].shape == (2, 16) and known["bits"].shape == (2, 2)


@pytest.mark.usefixtures("there")
def test_late_interaction_is_used_by_its_own_class_and_ranked_alike_by_qdrant() -> None:
    shown = snippets(model_card(late()))
    known = run(shown["Use"][0])
    assert known["scores"].shape == (1, 2)
    hits = run(shown["A vector database: Qdrant"][0], "qdrant_client")["scores"]
    found = {hit.payload["text"]: hit.score for hit in hits}
    assert [found[HEART], found[HEAD]] == pytest.approx(known["scores"][0].tolist(), abs=1e-4)


def test_from_the_hub_it_is_loaded_by_its_name(published: Path, expected: Any, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    text = card("medembed/tiny-embed")
    told = "\nimport json\nprint('scores', json.dumps(scores.tolist()))\n"
    shown = snippets(text)
    with Hub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=WRITER)
        api.create_repo("medembed/tiny-embed")
        api.upload_folder(repo_id="medembed/tiny-embed", folder_path=published / "tiny-embed")
        code = "\n".join(f"{shown[title][0]}{told}" for title in ("Use", "transformers alone"))
        done = subprocess.run([sys.executable, "-c", code], env=hub.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("scores ")]
    assert len(found) == 2 and all(np.allclose(scores, expected, atol=1e-5) for scores in found)
