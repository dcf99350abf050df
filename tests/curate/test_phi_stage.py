"""The gate for personal health information within the stage: nothing but texts that it has seen, and what follows from them, goes out."""

from typing import get_args

import pytest

from medembed.curate.gather import labelled
from medembed.recipe.dataset import QueryType

pytest.importorskip("presidio_analyzer", reason="Presidio is not installed: pip install 'medembed[phi]'")


@pytest.mark.parametrize(
    "said, kept",
    [
        *((kind, kind) for kind in get_args(QueryType)),
        ("follow-up_plan", "follow-up_plan"),
        ("asked by John Smith, MRN 4821337", "labelled"),
        ("question\n4821337", "labelled"),
        ("question\n", "labelled"),
        ("a" * 33, "labelled"),
        ("", "labelled"),
        (None, "labelled"),
    ],
)
def test_the_type_of_a_query_is_a_word_or_not_told(said: str | None, kept: str) -> None:
    row = {"query": "q", "positive": "p", "query_type": said, "source": "s", "license": "mit"}
    assert labelled(row)[0]["query_type"] == kept
    assert labelled({name: row[name] for name in row if name != "query_type"})[0]["query_type"] == "labelled"
