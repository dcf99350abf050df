"""What an LLM is asked: a chat completion with a JSON schema, and the key that names it for ever."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any


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
