"""What the LLM is asked: a note in, a chat request with a JSON schema out, and the key that names the request for ever.

The words stand in `prompts/<name>.jinja` (blocks `system` and `user`), the worked example beside it in `<name>.example.yaml`. A hash of
both is part of the prompt's version, so an edited prompt never takes old answers for its own.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import yaml

from medembed.errors import InputError
from medembed.generate.passages import Note
from medembed.llm.request import Request
from medembed.recipe import Generate
from medembed.tokens import count

# The share of a server's limit that our estimate of tokens may fill: its own tokenizer may count more, and its chat template adds to it.
_OF_LIMIT = 0.75
_NUMBER = 4  # tokens of a passage's number: `[12]` and the line's end

FOLDER = Path(__file__).parent / "prompts"


class Prompt:
    """A prompt made ready for what a recipe asks, of a server that reads `input_tokens` at most: notes in, requests out."""

    def __init__(self, options: Generate, input_tokens: int | None = None) -> None:
        template, example = (
            (FOLDER / f"{options.prompt}{suffix}").read_text(encoding="utf-8") for suffix in (".jinja", ".example.yaml")
        )
        self.options = options
        self.version = f"{options.prompt}@{hashlib.sha256((template + example).encode()).hexdigest()[:8]}"
        self.schema = reply_schema(options)
        # The prompt is text, not HTML: to escape a note would change it.
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
        environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(template)
        self.system = self._render("system", queries=options.queries, example=yaml.safe_load(example))
        self.note_tokens = options.max_note_tokens  # all of a note when none
        if input_tokens is not None and self.note_tokens is None:
            self.note_tokens = int(input_tokens * _OF_LIMIT) - count(self.system)
            if self.note_tokens <= 0:
                what = f"the servers read {input_tokens:,} tokens at most: prompt and reply leave no room for a note"
                raise InputError.of(
                    what, "generate", "Serve the model with larger limits, or set a smaller `max_tokens`."
                )

    def shown(self, note: Note) -> tuple[str, ...]:
        """The passages of `note` that its request carries: as many from the beginning as there is room for, one at least."""
        if self.note_tokens is None:
            return note.passages
        used, fit = count(note.title), 0
        for tokens in note.tokens:
            used += tokens + _NUMBER
            if used > self.note_tokens and fit:
                break
            fit += 1
        return note.passages[:fit]

    def request(self, note: Note) -> Request:
        """What is asked about `note`."""
        user = self._render("user", title=note.title, passages=self.shown(note))
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": user}]
        sampling = {name: getattr(self.options, name) for name in ("temperature", "max_tokens", "seed")}
        return Request(note.note_id, self.version, messages, self.schema, sampling)

    def _render(self, block: str, **known: Any) -> str:
        return "".join(self._template.blocks[block](self._template.new_context(known))).strip()


def reply_schema(options: Generate) -> dict[str, Any]:
    """The JSON schema of a reply. The order of the keys is the order of writing: evidence first, the query made from it after."""
    keys = {
        "evidence": {"type": "string"},
        "query": {"type": "string"},
        "query_type": {"type": "string", "enum": list(options.queries)},
    }
    pair = {"type": "object", "properties": keys, "required": list(keys), "additionalProperties": False}
    pairs = {"type": "array", "items": pair, "minItems": 1, "maxItems": sum(options.queries.values())}
    return {"type": "object", "properties": {"pairs": pairs}, "required": ["pairs"], "additionalProperties": False}
