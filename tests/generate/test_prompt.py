"""What the LLM is asked."""

import json
from typing import Any, get_args

import jsonschema
import pytest

from medembed import resources
from medembed.generate.passages import Note
from medembed.generate.prompt import FOLDER, Prompt
from medembed.generate.replies import read_reply
from medembed.llm.outcomes import Reply
from medembed.recipe import Generate, QueryType

TYPES = get_args(QueryType)
NOTE = Note(
    "id",
    "Clinic visit",
    ('Pulse 60 & BP <120/80>, "stable".', "{{ 7 * 7 }} {% raw %}", "Plan: stop ramipril."),
    "s",
    "l",
)


def prompt(**options: Any) -> Prompt:
    return Prompt(Generate.model_validate({"endpoints": ["http://localhost"], **options}))


def system(queries: dict[str, int]) -> str:
    return prompt(queries=queries).request(NOTE).messages[0]["content"]


def test_the_note_is_shown_as_it_is_passage_by_passage():
    user = prompt().request(NOTE).messages[1]
    expected = 'Title: Clinic visit\n\n[1]\nPulse 60 & BP <120/80>, "stable".\n\n[2]\n{{ 7 * 7 }} {% raw %}\n\n[3]\nPlan: stop ramipril.'
    assert user == {"role": "user", "content": expected}


def test_a_note_too_long_is_shown_from_its_beginning_and_one_passage_at_least():
    assert prompt(max_note_tokens=25).shown(NOTE) == NOTE.passages[:1]
    assert prompt(max_note_tokens=1).shown(NOTE) == NOTE.passages[:1]
    assert prompt(max_note_tokens=100).shown(NOTE) == NOTE.passages


@pytest.mark.parametrize("name", resources.prompts())
@pytest.mark.parametrize("query_type", TYPES)
def test_every_query_type_is_explained_and_shown_only_where_it_is_asked_for(name, query_type):
    text = (
        Prompt(Generate(endpoints=["http://localhost"], prompt=name, queries={query_type: 3})).request(NOTE).messages[0]
    )
    assert f"- 3 × {query_type}: " in text["content"]
    other = TYPES[TYPES.index(query_type) - 1]
    assert (
        f'"query_type": "{query_type}"' in text["content"] and other not in text["content"].partition("An example")[2]
    )


@pytest.mark.parametrize("name", resources.prompts())
def test_the_example_is_a_reply_as_we_would_want_it(name):
    options = Generate(endpoints=["http://localhost"], prompt=name, queries=dict.fromkeys(TYPES, 1))
    made = Prompt(options)
    text = made.request(NOTE).messages[0]["content"]
    reply = text[text.rindex('{"pairs"') :]
    jsonschema.validate(json.loads(reply), made.schema)
    passages = tuple(part.partition("\n")[2].strip() for part in text[: -len(reply)].split("\n[")[1:])
    reading = read_reply(Reply(reply, "stop"), passages, options.queries)
    assert len(reading.pairs) == len(TYPES) and not reading.rejects
    assert len({pair.passage for pair in reading.pairs}) == len(passages)


def test_the_schema_has_the_evidence_written_before_the_query_and_no_type_but_those_asked_for():
    pairs = prompt(queries={"lay": 2, "keyword": 1}).schema["properties"]["pairs"]
    assert list(pairs["items"]["properties"]) == pairs["items"]["required"] == ["evidence", "query", "query_type"]
    assert pairs["items"]["properties"]["query_type"]["enum"] == ["lay", "keyword"] and pairs["maxItems"] == 3


def test_whatever_shapes_an_answer_changes_the_key():
    same = {prompt().request(NOTE).key("m"), prompt(concurrency=1, timeout=9, attempts=1).request(NOTE).key("m")}
    assert len(same) == 1
    other = Note("id", "Clinic visit", ("Another text.",), "s", "l")
    keys = same | {prompt().request(NOTE).key("n"), prompt().request(other).key("m")}
    for change in ({"temperature": 0.1}, {"max_tokens": 9}, {"seed": 1}, {"queries": {"lay": 6}}):
        keys.add(prompt(**change).request(NOTE).key("m"))
    assert len(keys) == 7


def test_an_edited_prompt_is_another_version(tmp_path, monkeypatch):
    for file in FOLDER.glob("clinical-queries-v1.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("medembed.generate.prompt.FOLDER", tmp_path)
    before = prompt()
    assert before.version.startswith("clinical-queries-v1@")
    for name in ("clinical-queries-v1.jinja", "clinical-queries-v1.example.yaml"):
        with (tmp_path / name).open("a") as file:
            file.write("\n")
        assert prompt().version != before.version
        assert prompt().request(NOTE).key("m") != before.request(NOTE).key("m")
        before = prompt()
