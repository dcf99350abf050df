"""How one attempt at a request ends: with a `Reply`, or with a typed `Failure` that says whether to ask again, and when.

A status or a body comes in; nothing of its text goes out but the reply itself, and a kind of error where it is one of TGI's own.
"""

import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub import ChatCompletionOutput

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between attempts, doubled each time
LONGEST_REST = 600.0  # seconds, whatever `Retry-After` wishes
OVERLOADED = {429, 503}
NOT_TAKEN = {404, *OVERLOADED}  # the server is busy, starting, or serves something else: no fault of the request
IN_PASSING = {408, 424, 425, *NOT_TAKEN}  # and 5xx: asked again, it may succeed (424 is TGI's failed generation)
KINDS = {  # TGI's own words for them, in `error_type`: reasons are counted, so no server makes up more
    "generation",
    "incomplete_generation",
    "incomplete_generation_stream",
    "missing_template_vars",
    "overloaded",
    "template_error",
    "tool_error",
    "validation",
}


@dataclass(frozen=True)
class Reply:
    """What the LLM wrote, not yet looked into."""

    content: str
    finish_reason: str
    usage: dict[str, int] = field(default_factory=dict)  # tokens
    latency: float = 0.0  # seconds
    max_tokens: int | None = None  # that it was allowed, when more than the request says


@dataclass(frozen=True)
class Failure:
    """A request without an answer; permanent, when asking again would not help. The reason quotes nothing that was sent."""

    reason: str
    permanent: bool = False
    status: int | None = None
    retry_after: float = 0.0  # seconds, as the server wishes
    not_taken: bool = False  # the server never began with it
    overload: bool = False  # a sign that the server has too much to do


def read_completion(completion: ChatCompletionOutput, latency: float, max_tokens: int | None) -> Reply:
    choice = completion.choices[0]
    content = choice.message.content or ""
    if not isinstance(content, str):
        raise TypeError
    said = completion.usage if isinstance(completion.usage, dict) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {name: said[name] for name in names if isinstance(said.get(name), int)}
    return Reply(content, str(choice.finish_reason), usage, latency, max_tokens)


def read_error(response: httpx2.Response) -> Failure:
    status = response.status_code
    try:
        kind = response.json()["error_type"]
    except (ValueError, TypeError, LookupError, RecursionError):
        kind = None
    return Failure(
        f"{status} {kind}" if isinstance(kind, str) and kind in KINDS else str(status),
        permanent=status < 500 and status not in IN_PASSING,
        status=status,
        retry_after=retry_after(response.headers.get("Retry-After", "")),
        not_taken=status in NOT_TAKEN,
        overload=status in OVERLOADED,
    )


def retry_after(header: str) -> float:
    """The seconds that a server wishes, given as such or as an HTTP date; at most ten minutes."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header):
        return min(float(header), LONGEST_REST)
    try:
        until = parsedate_to_datetime(header)
        return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_REST)
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return 0.0


def pause(failures: int) -> float:
    """Seconds to wait after so many failures: exponential, with full jitter."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10)))
