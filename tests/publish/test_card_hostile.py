"""What a server, a stranger's manifest or a user's column says stays a text: the page is built as it is with plain words."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medembed.provenance import licences_of, upstream_of
from medembed.publish.cards import Table, dataset_card, model_card
from medembed.publish.cards.rendering import LINKS, code, counted, fenced, listed, text
from tests.fixtures.hub_rules import FRONT_MATTER, faults_of_card
from tests.publish.manifests import TABLES, dense, triplets

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = ("role", "policy", "state", "precision", "verdict", "commit")  # words of ours, by which a card is put together
COUNTS = ("rejects", "reasons", "found", "remaining")  # whose keys come from elsewhere, too
HOSTILE = [
    "a|b\n# A heading\n<script>alert(1)</script>`",
    "```\n---\nlicense: mit\n---\n",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}{# #}",
    "[a link](javascript:alert(1)) ![a picture](http://example.org/x.png) <http://example.org>",
    "*a* _b_ __c__ ~~d~~ $$e$$ \\(f\\) \\",
    "</details></table><img src=x onerror=alert(1)>&lt;b&gt;&#60;",
    "\u202e\u2028\x00\x1b[31m\ud800\U0001f600",
    "| --- | --- |",
    "x" * 5000,
    "see https://example.org, WWW.example.org, @somebody, some.body@example.org, ``@x`` and xmpp://y",
]


def said_by_strangers(manifest: dict[str, Any], word: str) -> dict[str, Any]:
    """The manifest with `word` for all that is not ours: the texts of facts, origins and upstream, the names of what was counted."""

    def replaced(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {word if key in COUNTS else name: replaced(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, key) for item in value]
        return word if isinstance(value, str) and key not in OURS else value

    foreign = (
        "stages",
        "upstream",
        "origins",
        "attributions",
        "decontamination",
        "training_datasets",
        "libraries",
        "measured",
    )
    return manifest | {key: replaced(manifest[key]) for key in foreign if key in manifest}


def structure(card: str) -> list[str]:
    """The page as it is built: every element, without its words and what sets them as code; pieces of raw HTML as they are."""
    body = FRONT_MATTER.sub("", card, count=1)
    found = []
    for token in MARKDOWN.parse(body):
        found.append(token.content if token.type == "html_block" else token.type + token.tag)
        found += [child.content if child.type == "html_inline" else child.type for child in token.children or []]
    return [each for each in found if each not in ("text", "text_special", "code_inline")]


def model(word: str) -> str:
    made = said_by_strangers(dense(), word)
    results = made["stages"]["evaluate"]["facts"]
    for it in results["models"]:
        it["name"] = word
    results["tasks"] = {word: results["tasks"]["NFCorpus"]}
    return model_card(made)


def dataset(word: str) -> str:
    columns = {name: Table(table.rows, table.columns | {word: word}) for name, table in TABLES.items()}
    return dataset_card(said_by_strangers(triplets(), word), columns)


@cache
def plain(kind: str) -> list[str]:
    return structure({"model": model, "dataset": dataset}[kind]("word"))


@pytest.mark.parametrize("kind, card", [("model", model), ("dataset", dataset)], ids=["model", "dataset"])
@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_a_page_is_built_alike_whatever_strangers_say(kind: str, card: Callable[[str], str], word: str) -> None:
    page = card(word)
    assert structure(page) == plain(kind)
    assert faults_of_card(page, kind) == []
    page.encode()


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab`|<>&*_~[]()!#$\\-\n @:/.") | st.characters(codec="utf-8")))
def test_a_value_is_shown_to_the_letter(value: str) -> None:
    line = "".join(c for c in " ".join(value.split()) if c.isprintable())
    (paragraph,) = [it for it in MARKDOWN.parse(f"x{text(value, 10**6)}x") if it.type == "inline"]
    kinds = {child.type for child in paragraph.children or []}
    shown = "".join(child.content for child in paragraph.children or [])
    assert ("code_inline" in kinds) == bool(LINKS.search(line) and "|" not in line)
    assert kinds <= {"text", "text_special", "code_inline"} and shown == f"x{line}x"


@pytest.mark.parametrize(
    "value", ["https://a.b", "see WWW.a.b", "@somebody", "ask some.body@a.b", "``@x` xmpp://y`", "`@x"]
)
def test_no_value_becomes_a_link_or_a_mention_by_itself(value: str) -> None:
    (paragraph,) = [it for it in MARKDOWN.parse(str(text(value))) if it.type == "inline"]
    assert [(child.type, child.content) for child in paragraph.children] == [("code_inline", value)]
    assert text("nDCG@10") == "nDCG@10"


def test_a_link_beside_a_bar_is_spelt_so_that_a_table_shows_both_to_the_letter() -> None:
    shown = text("https://a.b | @c | www.d | e@f.g")
    assert not LINKS.search(shown)
    (paragraph,) = [it for it in MARKDOWN.parse(str(shown)) if it.type == "inline"]
    assert "".join(child.content for child in paragraph.children) == "https://a.b | @c | www.d | e@f.g"


def test_values_of_other_types_than_expected_are_said_to_be_not_recorded() -> None:
    for odd in (None, 7, "text", ["a"], True):
        assert counted(odd) == "not recorded"
    assert listed({"a": 1}) == "a" and listed("one") == "one" and listed([]) == "none"
    assert code("") == code(None) == "not recorded"


def test_a_fence_is_longer_than_any_in_it() -> None:
    assert fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"


@pytest.mark.parametrize(
    "odd", [None, "text", 7, [], ["text"], {"facts": ["x"]}, {"facts": {"phi": "x", "decontaminate": 3}}]
)
def test_a_strangers_manifest_of_another_shape_cannot_keep_a_card_from_being_written(odd: Any) -> None:
    made = dense()
    theirs = made["upstream"] | {"stages": {"curate": odd}, "recipe": odd, "attributions": odd}
    assert "## Training data" in model_card(made | {"upstream": upstream_of(theirs)})


@pytest.mark.parametrize("odd", [None, "text", {"pairs": "text"}, {"pairs": ["text"]}, {"pairs": [{"license": ["a"]}]}])
def test_origins_of_another_shape_are_none(odd: Any) -> None:
    theirs = json.loads(json.dumps(triplets())) | {"origins": odd}
    assert upstream_of(theirs) is None


def test_a_strangers_manifest_with_no_licence_and_no_list_of_languages_makes_a_card() -> None:
    made = dense()
    made["upstream"]["recipe"]["curate"] = [{"language": 5}]
    for rows in made["upstream"]["origins"].values():
        for row in rows:
            row["license"] = None
    assert upstream_of(made["upstream"]) and licences_of(made["upstream"]["origins"]) == ["unknown"]
    assert faults_of_card(model_card(made), "model") == []
