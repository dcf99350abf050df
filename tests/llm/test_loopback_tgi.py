"""The loopback TGI answers in the shapes of text-generation-inference, and refuses what that refuses."""

import json
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from medembed.llm.servers import DIALECTS, PROBE
from tests.fixtures.tgi import TGI

SHAPES = json.loads((Path(__file__).parents[1] / "fixtures" / "tgi_shapes.json").read_text())
GOOD = {"messages": PROBE.messages, "max_tokens": 64, "response_format": DIALECTS["tgi"](PROBE.schema)}
ABOUT_A_NOTE = {"messages": [{"role": "user", "content": "?"}]}


def post(tgi: TGI, body: Any) -> httpx2.Response:
    return httpx2.post(f"{tgi.url}/v1/chat/completions", json=body)


def answers(tgi: TGI) -> list[tuple[str, Any]]:
    """One answer of each kind, with the name of its shape."""
    tgi.faults = ["422", "424", "429", "500"]
    errors = [post(tgi, ABOUT_A_NOTE) for _ in range(4)]
    assert [response.status_code for response in errors] == [422, 424, 429, 500]
    return [
        ("info", httpx2.get(f"{tgi.url}/info").json()),
        ("completion", post(tgi, GOOD).json()),
        *(("error", response.json()) for response in errors),
    ]


def test_its_answers_have_the_shapes_of_tgi():
    with TGI() as tgi:
        for name, answer in answers(tgi):
            jsonschema.validate(answer, SHAPES[name])


@pytest.mark.realdata
def test_its_answers_are_what_the_specification_of_tgi_says(real_data):
    specification = json.loads((real_data.parent / "tgi-openapi.json").read_text())
    named = {"info": "Info", "completion": "ChatCompletion", "error": "ErrorResponse"}
    with TGI() as tgi:
        for name, answer in answers(tgi):
            reference = {"$ref": f"#/components/schemas/{named[name]}", "components": specification["components"]}
            jsonschema.validate(_without_nulls(answer), reference)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": []},
        {"messages": None},
        {"messages": [{"content": "no role"}]},
        {"temperature": 2.5},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 9000},
        {"seed": "42"},
        {"model": "org/some-adapter"},
        {"response_format": DIALECTS["openai"](PROBE.schema)},
        {"response_format": DIALECTS["llama.cpp"](PROBE.schema)},
        {"response_format": DIALECTS["tgi"]({"type": "string"})},
    ],
)
def test_it_refuses_what_tgi_refuses(change):
    with TGI() as tgi:
        assert post(tgi, GOOD).status_code == 200
        assert post(tgi, GOOD | change).status_code == 422


def _without_nulls(answer: Any) -> Any:
    """OpenAPI 3.0 says `nullable`, which JSON Schema does not know."""
    if isinstance(answer, dict):
        return {key: _without_nulls(value) for key, value in answer.items() if value is not None}
    return [_without_nulls(each) for each in answer] if isinstance(answer, list) else answer
