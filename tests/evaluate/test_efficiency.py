"""What models cost: sizes that can be counted, speed that is measured on the same texts, and the picture of both."""

import logging
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from medembed.evaluate import efficiency
from medembed.evaluate.compressed import Form, forms
from medembed.evaluate.pictures import GROUND, INK, draw_compressed

ROWS = {
    "base": {form: 0.5 + form.bytes / 1000 for form in forms(64, [32, 16], ["int8", "binary"])},
    "org/tuned | <b>": {form: 0.6 + form.bytes / 1000 for form in forms(64, [32, 16], ["int8", "binary"])},
}


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


def test_parameters_and_bytes_are_those_of_the_weights(model) -> None:
    found = efficiency.sizes(model)
    assert found["parameters"] == sum(weight.numel() for weight in model.state_dict().values())
    assert found["weights_bytes"] >= 4 * found["parameters"]
    assert (found["dimensions"], found["max_length"], found["vectors"]) == (32, 64, "one a text")


def test_made_up_texts_are_the_same_for_everybody_and_as_long_as_real_ones() -> None:
    given = efficiency.texts(2000)
    assert given == efficiency.texts(2000)
    assert given[:10] == efficiency.texts(10)
    lengths = [len(text.split()) for text in given]
    # Quartiles of the answers in MedQuAD: 84, 150 and 269 words.
    assert np.percentile(lengths, [25, 50, 75]) == pytest.approx([84, 150, 269], rel=0.12)


def test_speed_counts_every_text_once_for_each_pass(model, monkeypatch) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0)
    sizes: list[int] = []

    class Slow:
        device = model.device

        def encode_document(self, texts: list[str], **_: object) -> None:
            sizes.append(len(texts))
            time.sleep(0.01 * len(texts))

    told = efficiency.speed(Slow())["embeddings_per_second"]
    assert sum(sizes) == 1 + 64 + 32 + 64  # each time a batch to warm up, then all
    assert told["1"] == pytest.approx(100, rel=0.3)
    assert told["32"] == pytest.approx(100, rel=0.3)


def test_the_speed_of_a_real_model_is_told_with_its_device(model, monkeypatch) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0)
    told = efficiency.speed(model)
    assert re.match(r"CPU, threads: \d+$", told["device"]) or "peak_gpu_bytes" in told
    assert set(told["embeddings_per_second"]) == {"1", "32"}
    assert min(told["embeddings_per_second"].values()) > 0


def test_an_index_of_late_interaction_holds_a_vector_for_each_token(tiny_model) -> None:
    late = MultiVectorEncoder(str(tiny_model), device="cpu")
    passages = [f"acute pain in the left knee {'and chest ' * n}" for n in range(20)]
    exact = sum(len(each) for each in late.encode_document(passages))
    assert efficiency.sizes(late)["vectors"] == "one a token"
    assert efficiency.vectors(late, passages, 8) == exact > 5 * len(passages)
    assert efficiency.vectors(late, passages * 40, 8) == pytest.approx(40 * exact, rel=0.1)  # from a sample


def test_a_dense_index_holds_a_vector_for_each_passage(model) -> None:
    assert efficiency.vectors(model, ["pain"] * 7, 8) == 7


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_equal_rows_give_equal_bytes(tmp_path) -> None:
    drawn = [draw_compressed(tmp_path / name / "picture", ROWS) for name in ("one", "two")]
    assert [path.name for path in drawn[0]] == ["picture.png", "picture.svg"]
    assert [path.read_bytes() for path in drawn[0]] == [path.read_bytes() for path in drawn[1]]


def test_the_drawing_follows_a_reader_with_a_dark_screen(tmp_path) -> None:
    svg = draw_compressed(tmp_path / "picture", ROWS)[1].read_text()
    style = re.search(r"<style>@media \(prefers-color-scheme: dark\).*?</style>", svg)
    assert style
    assert INK in style[0] and GROUND in style[0]
    outside = svg.replace(style[0], "")
    assert f"fill: {INK}" in outside, "no text is in the ink that the rules turn"
    assert "#000000" not in outside, "something is in a black that no rule turns"
    assert "org/tuned | &lt;b&gt;" in outside


def test_every_model_and_form_is_in_the_legend(tmp_path) -> None:
    svg = draw_compressed(tmp_path / "picture", ROWS)[1].read_text()
    for name in ("base", "float32", "int8", "binary, rescored", "binary"):
        assert f">{name}</text>" in svg
    only = draw_compressed(tmp_path / "other", {"base": {Form(8, "float32"): 0.5}})[1].read_text()
    assert ">int8</text>" not in only


def test_without_matplotlib_there_is_no_picture_and_a_word_of_it(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.INFO):
        assert draw_compressed(tmp_path / "picture", ROWS) == []
    assert "medembed[plots]" in caplog.text
    assert not list(tmp_path.iterdir())
