"""What an LLM replied: a reply and its note in; usable pairs out, and a typed reject for everything else.

A reply is untrusted. Nothing in it can raise an error, and nothing of it is used but queries whose evidence stands in one passage.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medembed.generate.passages import normalise
from medembed.llm.outcomes import Failure, Reply
from medembed.recipe import QueryType
from medembed.rows import fold_quotes


class _Written(BaseModel):
    """One pair as the schema of the request has it."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    evidence: str
    query: str
    query_type: str


@dataclass(frozen=True)
class Pair:
    """A query and the passage that answers it, with the words of the passage that show it."""

    query: str
    query_type: str
    passage: str
    evidence: str


@dataclass
class Reading:
    """What a reply gave: pairs, rejects as (reason, what was rejected), and how many of the asked pairs it did not give."""

    pairs: list[Pair] = field(default_factory=list)
    rejects: list[tuple[str, Any]] = field(default_factory=list)
    missing: int = 0


def read_reply(reply: Reply | Failure, passages: tuple[str, ...], queries: Mapping[QueryType, int]) -> Reading:
    """The pairs that came of a request which showed `passages` and asked for so many `queries` of each type."""
    reading = Reading(missing=sum(queries.values()))
    if isinstance(reply, Failure):
        reading.rejects.append((f"no answer: {reply.reason}", None))
        return reading
    items = _items(reply)
    if isinstance(items, str):
        reading.rejects.append((items, reply.content))
        return reading
    folded = [(passage, fold_quotes(passage)) for passage in passages]
    asked = Counter({str(query_type): count for query_type, count in queries.items()})
    for item in items:
        pair = _pair(item, folded, asked)
        if isinstance(pair, Pair):
            reading.pairs.append(pair)
        else:
            reading.rejects.append((pair, item))
    reading.missing = asked.total()
    return reading


def _items(reply: Reply) -> list[Any] | str:
    """The list under `pairs`, or why there is none."""
    if reply.finish_reason == "length":
        return "truncated"
    if reply.finish_reason == "content_filter":
        return "refused by a content filter"
    try:
        # Constrained decoders write raw control characters into strings.
        value = json.loads(reply.content, strict=False)
    except (ValueError, RecursionError):
        return "not JSON"
    if isinstance(value, dict) and isinstance(value.get("pairs"), list):
        return list(value["pairs"])
    return "wrong schema"


def _pair(item: Any, passages: list[tuple[str, str]], asked: Counter[str]) -> Pair | str:
    """The pair in one item, or the reason to reject it. Passages come with their quotes folded; `asked` goes down by what was given."""
    try:
        written = _Written.model_validate(item)
    except ValidationError:
        return "wrong schema"
    if written.query_type not in asked:
        return "unknown query type"
    if not asked[written.query_type]:
        return "more than asked"
    asked[written.query_type] -= 1
    query, evidence = (" ".join(normalise(text).split()) for text in (written.query, written.evidence))
    if not query:
        return "empty query"
    span = fold_quotes(evidence)
    found = [passage for passage, folded in passages if span and span in folded]
    if len(found) != 1:
        return "evidence in several passages" if found else "evidence in no passage"
    return Pair(query, written.query_type, found[0], evidence)
