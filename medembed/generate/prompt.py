"""What the LLM is asked: a note in, a chat request with a JSON schema out, and the key that names the request for ever.

The words stand in `prompts/<name>.jinja` (blocks `system` and `user`), the worked example beside it in `<name>.example.yaml`. A hash of
both is part of the prompt's version, so an edited prompt never takes old answers for its own.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from medembed.generate.passages import Note
from medembed.recipe import Generate

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Request:
    """One chat completion that is asked for: all that shapes its answer but the model."""

    note_id: str
    prompt_version: str
    messages: list[dict[str, str]]
    schema: dict[str, Any]
    sampling: dict[str, float]

    def key(self, model: str) -> str:
        """The name of this request to `model`: a SHA-256 over everything that shapes the answer."""
        said = [self.prompt_version, self.messages, self.schema, self.sampling, model]
        return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Prompt:
    """A prompt made ready for what a recipe asks: notes in, requests out."""

    def __init__(self, options: Generate) -> None:
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
        self._system = self._render("system", queries=options.queries, example=yaml.safe_load(example))

    def shown(self, note: Note) -> tuple[str, ...]:
        """The passages of `note` that its request carries: as many from the beginning as `max_note_words` allows."""
        return note.first(self.options.max_note_words)

    def request(self, note: Note) -> Request:
        """What is asked about `note`."""
        user = self._render("user", title=note.title, passages=self.shown(note))
        messages = [{"role": "system", "content": self._system}, {"role": "user", "content": user}]
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
