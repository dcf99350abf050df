"""Notes → passages: a note's text in, the stretches of it that a retriever should find out.

Cut at section headings first, because that is where a note changes its subject; short sections join the next, long ones are cut at
sentences with a small overlap. Pure functions: the same note gives the same passages everywhere.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from medembed.recipe import Passages
from medembed.tokens import count

# A heading stands at a line's start: up to seven words that begin with a capital and end with a colon (`HPI:`, `Hospital course:`),
# or a line in capitals alone (`DISCHARGE MEDICATIONS`), Markdown marks aside.
_HEADING = re.compile(
    r"^[ \t]*[#*_]*(?:[A-Z][\w/&'()-]*(?:[ \t]+[\w/&'()-]+){0,6}[*_]*:[*_]*(?=\s|$)|[A-Z][A-Z/&' -]{3,58}[*_]*$)",
    re.MULTILINE,
)
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # Unicode's Cc, tab and line feed aside, and Cs
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(\[-])|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|vs|e\.g|i\.e|approx|No|Fig|pt|Pt|q|hr|wk)|\b[A-Za-z])\.$")


@dataclass(frozen=True)
class Note:
    """A note as it is asked about: named by its content, cut into passages, with the title that all of them bear."""

    note_id: str
    title: str
    passages: tuple[str, ...]
    source: str
    license: str

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """About how many each passage has."""
        return tuple(map(count, self.passages))


def normalise(text: str) -> str:
    """A note's text as it is cut and quoted: Unicode composed (NFC), control characters gone, lines trimmed, runs of blanks one."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = unicodedata.normalize("NFC", text)
    lines = (re.sub(r"[ \t\xa0]+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def cut(text: str, options: Passages, count: Callable[[str], int]) -> list[str]:
    """The passages of a normalised note, in order, of at most `max_tokens` as `count` counts them; every word is in at least one.

    Longer is only a passage of one word, and one that a section shorter than `min_tokens` stands before.
    """
    passages: list[str] = []
    pending = ""
    for section in _sections(text):
        pending = f"{pending}\n{section}".strip()
        if count(pending) < options.min_tokens:
            continue
        passages += _windows(pending, options, count)
        pending = ""
    if pending and passages and count(f"{passages[-1]}\n{pending}") <= options.max_tokens:
        passages[-1] = f"{passages[-1]}\n{pending}"
    elif pending:
        passages.append(pending)
    return passages


def _sections(text: str) -> Iterator[str]:
    starts = sorted({0, *(match.start() for match in _HEADING.finditer(text))})
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if section := text[start:end].strip():
            yield section


def _windows(section: str, options: Passages, count: Callable[[str], int]) -> Iterator[str]:
    """Runs of whole sentences of at most `max_tokens`, each beginning with the last `overlap` sentences of the one before."""

    def fits(sentences: list[str]) -> bool:
        return count(" ".join(sentences)) <= options.max_tokens

    if fits([section]):
        yield section
        return
    window: list[str] = []
    for sentence in (piece for whole in _sentences(section) for piece in _pieces(whole, options.max_tokens, count)):
        if window and not fits([*window, sentence]):
            yield " ".join(window)
            window = window[len(window) - options.overlap :] if 0 < options.overlap < len(window) else []
            while window and not fits([*window, sentence]):
                window.pop(0)
        window.append(sentence)
    yield " ".join(window)


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    for piece in _SENTENCE_END.split(text):
        if not (piece := piece.strip()):
            continue
        if sentences and _ABBREVIATION.search(sentences[-1]):
            sentences[-1] += f" {piece}"
        else:
            sentences.append(piece)
    return sentences


def _pieces(sentence: str, max_tokens: int, count: Callable[[str], int]) -> Iterator[str]:
    """A sentence of more than `max_tokens` (a list without stops, a table) is cut where it must be, between words."""
    if count(sentence) <= max_tokens:
        yield sentence
        return
    words = sentence.split()
    while words:
        lengths = range(1, min(len(words), max_tokens) + 1)  # a word has a token at least
        fit = bisect_right(lengths, max_tokens, key=lambda length: count(" ".join(words[:length]))) or 1
        yield " ".join(words[:fit])
        del words[:fit]
