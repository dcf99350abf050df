"""Reading what an LLM wrote: whatever that is, it ends as pairs and typed rejects, never as an error."""

import json
import random
import string
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.generate.replies import read_reply
from medembed.llm.outcomes import Failure, Reply
from medembed.rows import REJECTS, as_json, stands_in

PASSAGES = (
    "HPI: 61-year-old man with gout in both knees. No fever. He drinks two pints daily.",
    "Plan: start colchicine 500 µg b.i.d. and hold the “water tablet”. No fever. Review in a week.",
)
ASKED: Any = {"keyword": 1, "question": 2}
GOOD = {"evidence": "start colchicine 500 µg b.i.d.", "query": "gout flare drug dose", "query_type": "keyword"}
REASONS = {
    "refused by a content filter",
    "truncated",
    "not JSON",
    "wrong schema",
    "unknown query type",
    "more than asked",
    "empty query",
    "evidence in no passage",
    "evidence in several passages",
}


def read(content: Any, finish_reason: str = "stop") -> Any:
    text = content if isinstance(content, str) else json.dumps(content)
    return read_reply(Reply(text, finish_reason), PASSAGES, ASKED)


def reasons(*items: Any) -> list[str]:
    return [reason for reason, _ in read({"pairs": list(items)}).rejects]


def test_a_pair_gets_the_passage_in_which_its_evidence_stands():
    reading = read({"pairs": [GOOD]})
    [pair] = reading.pairs
    assert (pair.passage, pair.query, pair.query_type) == (PASSAGES[1], "gout flare drug dose", "keyword")
    assert reading.missing == 2 and not reading.rejects


def test_white_space_quotes_and_the_way_an_accent_is_encoded_make_no_difference():
    evidence = 'hold  the\n"water tablet".  No fever.'
    assert read({"pairs": [{**GOOD, "evidence": evidence}]}).pairs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"evidence": "start colchicine 1 mg b.i.d."}, "evidence in no passage"),
        ({"evidence": "He drinks two pints daily. Plan: start colchicine"}, "evidence in no passage"),
        ({"evidence": "No fever."}, "evidence in several passages"),
        ({"evidence": ""}, "evidence in no passage"),
        ({"query": " \u0007\n"}, "empty query"),
        ({"query_type": "riddle"}, "unknown query type"),
        ({"query_type": ["keyword"]}, "wrong schema"),
        ({"score": 10}, "wrong schema"),
        ({"query": None}, "wrong schema"),
    ],
)
def test_a_pair_that_cannot_be_used_is_rejected_for_its_reason(change, reason):
    assert reasons({**GOOD, **change}) == [reason]


def test_more_pairs_of_a_type_than_asked_are_rejected_and_fewer_are_counted():
    reading = read({"pairs": [GOOD, GOOD, {**GOOD, "query_type": "question"}]})
    assert [reason for reason, _ in reading.rejects] == ["more than asked"]
    assert len(reading.pairs) == 2 and reading.missing == 1


def test_the_finish_reason_is_looked_at_first():
    assert read({"pairs": [GOOD]}, "length").rejects[0][0] == "truncated"


def test_what_a_content_filter_stopped_is_no_reply():
    assert read({"pairs": [GOOD]}, "content_filter").rejects[0][0] == "refused by a content filter"


def test_raw_control_characters_in_strings_are_tolerated():
    text = json.dumps({"pairs": [GOOD]}).replace("gout flare", "gout\n\tflare")
    assert read(text).pairs[0].query == "gout flare drug dose"


def test_a_failed_request_is_one_reject_and_all_its_pairs_are_missing():
    reading = read_reply(Failure("422 validation", permanent=True), PASSAGES, ASKED)
    assert reading.rejects == [("no answer: 422 validation", None)] and reading.missing == 3


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 100_000,
        '{"pairs":' * 5_000,
        '{"pairs": [' + "[" * 900 + "]" * 900 + "]}",
        '{"pairs": [' + "9" * 100_000 + "]}",
        '{"pairs": [1e999, -1e999, NaN, Infinity]}',
        json.dumps({"pairs": [GOOD] * 5_000}),
        json.dumps({"pairs": [{**GOOD, "evidence": "No fever. " * 100_000}]}),
        json.dumps({"pairs": [{**GOOD, "query": "\x00" * 1_000_000}]}),
        json.dumps({"pairs": [{**GOOD, "query": "\ud800"}, {**GOOD, "\ud800": "\udfff"}]}),
        " " * 3_000_000,
    ],
    ids=lambda text: f"{text[:12]}… {len(text)}",
)
def test_what_is_huge_deep_or_endless_is_a_pair_or_a_reject_too(hostile):
    started = time.monotonic()
    are_pairs_or_rejects(read(hostile))
    assert time.monotonic() - started < 5


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.text(st.characters()),  # lone surrogates and control characters among them
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
near_pairs = st.fixed_dictionaries(
    {},
    optional={
        "evidence": st.sampled_from([GOOD["evidence"], "No fever.", "\ud800", "µ"]) | json_values,
        "query": st.text(st.characters(), max_size=30) | json_values,
        "query_type": st.sampled_from(["keyword", "question", "lay"]) | json_values,
        "extra": json_values,
    },
)
good_pairs = st.fixed_dictionaries(
    {
        "evidence": st.sampled_from([GOOD["evidence"], PASSAGES[0], "He drinks\x00 two   pints"]),
        "query": st.text(st.characters(), max_size=30),
        "query_type": st.sampled_from(["keyword", "question"]),
    }
)
objects = st.fixed_dictionaries({"pairs": st.lists(good_pairs | near_pairs | json_values, max_size=8)})
texts = st.one_of(objects, json_values).flatmap(
    lambda value: st.booleans().map(lambda escaped: json.dumps(value, ensure_ascii=escaped))
)
near_replies = st.one_of(
    texts,
    texts.map(lambda text: text.replace('"query"', '"query": "twice", "query"')),  # duplicate keys
    texts.map(lambda text: text.replace(" ", "\x00\n\x1b")),  # raw control characters
    st.tuples(texts, st.floats(0, 1)).map(lambda cut: cut[0][: int(cut[1] * len(cut[0]))]),
    texts.map(lambda text: f"```json\n{text}\n```"),
    st.text(st.characters()),
    st.text(alphabet=string.punctuation + string.digits),
)


@settings(deadline=None, max_examples=250)
@given(near_replies, st.sampled_from(["stop", "length", "eos_token", "content_filter", "None"]))
def test_no_reply_whatever_raises_and_everything_is_a_good_pair_or_a_typed_reject(content, finish_reason):
    are_pairs_or_rejects(read(content, finish_reason))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**64))
def test_of_10_000_damaged_replies_each_is_good_pairs_and_typed_rejects_and_none_raises(seed):
    draw = random.Random(seed)
    for _ in range(100):
        are_pairs_or_rejects(read(damaged(draw)))


def damaged(draw: random.Random) -> str:
    """A reply in which one to four things are wrong; quicker to make than by a strategy, so that there can be many."""
    pairs = [dict(GOOD, query_type=draw.choice(["keyword", "question"])) for _ in range(draw.randint(0, 5))]
    for pair in pairs:
        if draw.random() < 0.4:
            pair[draw.choice([*GOOD, "score", "\ud800"])] = any_value(draw)
        if draw.random() < 0.2:
            del pair[draw.choice(list(pair))]
    reply = any_value(draw) if draw.random() < 0.1 else {"pairs": pairs}
    text = json.dumps(reply, ensure_ascii=draw.random() < 0.5)
    for _ in range(draw.randint(0, 3)):
        at = draw.randint(0, len(text))
        text = draw.choice(
            [
                text[:at],
                text[:at] + draw.choice(HOSTILE) + text[at:],
                text[:at] + draw.choice(HOSTILE) + text[at + 1 :],
                text.replace('"query"', '"query": "twice", "query"'),  # duplicate keys
                text.replace(" ", draw.choice(HOSTILE)),
                f"```json\n{text}\n```",
                text + text,
            ]
        )
    return text


HOSTILE = [
    "\x00",
    "\x1b[2J",
    "\n\t",
    "\ud800",
    "\\ud83d",
    "\\u0000",
    "\u202e",
    '"',
    "\\",
    "{",
    "]",
    "9" * 400,
    "1e999",
    "[" * 1500,
    "NaN",
]


def any_value(draw: random.Random, depth: int = 0) -> Any:
    simple = [
        None,
        True,
        -1,
        10**300,
        0.5,
        float("inf"),
        "",
        "No fever.",
        draw.choice(HOSTILE),
        draw.choice(HOSTILE) * 50,
    ]
    if depth < 3 and draw.random() < 0.3:
        inner = [any_value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
        return inner if draw.random() < 0.5 else {str(draw.choice(HOSTILE)): value for value in inner}
    return draw.choice(simple)


def are_pairs_or_rejects(reading: Any) -> None:
    assert reading.pairs or reading.rejects or reading.missing == 3
    assert {reason for reason, _ in reading.rejects} <= REASONS
    for pair in reading.pairs:
        assert stands_in(pair.evidence, pair.passage) and pair.query.strip() and pair.query_type in ASKED
        pair.query.encode(), pair.evidence.encode()
    rows = [{"reason": reason, "where": "", "row": as_json(item)} for reason, item in reading.rejects]
    pa.Table.from_pylist(rows, schema=REJECTS).validate(full=True)
