"""The board as a Markdown table, and its place in a README: between two markers, all else stays. Names are anybody's: they are escaped."""

import re
from collections.abc import Iterable
from pathlib import Path

from medembed.errors import InputError
from medembed.leaderboard.board import SIZES, UNKNOWN_SIZE, Board, Row
from medembed.leaderboard.snapshot import Source
from medembed.leaderboard.tasks import BENCHMARK, BENCHMARK_NAME, HEADLINE, TASKS
from medembed.run import replacing

BEGIN, END = "<!-- leaderboard: begin -->", "<!-- leaderboard: end -->"
SHORT = {"PublicHealthQA": "PublicHealth", "MedicalQARetrieval": "MedicalQA", "TRECCOVID": "TREC-COVID"}
NONE = "–"

NOTES = f"""\
Scores are nDCG@10 × 100; `PublicHealthQA` in English. *Medical*: the mean over the {len(BENCHMARK)} tasks of `{BENCHMARK_NAME}`
in all their languages. A mean is given where all its scores are known; else how many of them are. *Zero-shot*: the share of
all {len(TASKS)} tasks whose data the model was not trained on, as its authors declare to mteb; `?` where they declare nothing.
In brackets: the difference from the model above that it was tuned from (↳). *External*: reported by the authors, not measured by mteb."""


def table(rows: Iterable[Row]) -> str:
    """One table: a line a model, under a line for each size."""
    head = ["model", "parameters", *(SHORT.get(task, task) for task in HEADLINE), "mean", "Medical", "zero-shot"]
    head += ["licence", "revision", "released"]
    lines = [
        _line(head),
        _line(["---", "---:", *["---:"] * len(HEADLINE), "---:", "---:", "---:", "---", "---", "---"]),
    ]
    rows = list(rows)
    for size in (*SIZES, UNKNOWN_SIZE):
        if of_size := [row for row in rows if row.size == size]:
            lines.append(_line([f"**{size}**", *[""] * (len(head) - 1)]))
            lines += [_line(_cells(row, {other.model for other in of_size})) for row in of_size]
    return "\n".join(lines)


def short(board: Board, best: int = 3) -> list[Row]:
    """Ours, those that everybody compares with, and the best of each size, as far as their headline is known."""
    chosen = {row.model for row in board.rows if row.ours or row.anchor}
    for size in SIZES:
        ranked = sorted((row for row in board.of_size(size) if row.mean is not None), key=lambda row: -(row.mean or 0))
        chosen |= {row.model for row in ranked[:best]}
    return [row for row in board.rows if row.model in chosen]


def full(board: Board) -> list[Row]:
    """All whose headline is known, ours, and those that everybody compares with."""
    return [row for row in board.rows if row.ours or row.anchor or row.mean is not None]


def sources(board: Board) -> str:
    return "Sources of the published figures: " + "; ".join(_source(source) for source in board.sources) + "."


def brief(board: Board) -> str:
    """What stands in a README that tells of other things too."""
    return "\n\n".join([table(short(board)), NOTES, sources(board)])


def whole(board: Board, pictures: list[tuple[str, str]], folder: str) -> str:
    """What stands in the leaderboard's own README: the pictures (name, title) in light and dark, and all models."""
    parts = [
        f"<picture>\n"
        f'<source media="(prefers-color-scheme: dark)" srcset="{folder}/{name}-dark.svg">\n'
        f'<img alt="{title}" src="{folder}/{name}-light.svg">\n'
        f"</picture>"
        for name, title in pictures
    ]
    rows = full(board)
    more = f"{len(rows)} models; {len(board.rows) - len(rows)} more, of which a score of the five is not known, are on the page."
    return "\n\n".join([*parts[:1], more, table(rows), NOTES, sources(board), *parts[1:]])


def check(path: Path) -> None:
    """Look whether the table has its place in the file at `path`.

    Raises:
        InputError: the file cannot be read, or does not have one pair of markers.
    """
    _around(path)


def put(path: Path, text: str) -> None:
    """Put `text` between the markers of the file at `path`.

    Raises:
        InputError: as `check`.
    """
    old, before, after = _around(path)
    new = f"{before}{BEGIN}\n{text}\n{END}{after}"
    if new != old:
        with replacing(path) as temporary:
            temporary.write_text(new, encoding="utf-8")


def _around(path: Path) -> tuple[str, str, str]:
    """A file, what stands before its markers, and what stands after them."""
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError.of("cannot be read", str(path)) from error
    before, begins, rest = old.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not begins or not ends or BEGIN in rest or END in after:
        mend = f"Put `{BEGIN}` and `{END}` where the table shall stand, once."
        raise InputError.of("has no place for the leaderboard", str(path), mend)
    return old, before, after


def points(value: float | None) -> str:
    """A score of 0 to 1 in points."""
    return NONE if value is None else f"{100 * value:.1f}"


def gained(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def parameters(count: int | None) -> str:
    """A number of parameters, as models are named by it: 33M, 1.5B."""
    if not count:
        return "?"
    return f"{count / 1e9:.3g}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def share(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.0f} %"


def known(values: Iterable[float | None]) -> str:
    """In place of a mean: how many of its values are known."""
    values = list(values)
    return f"{sum(value is not None for value in values)}/{len(values)}"


def licence(text: str) -> str:
    """A licence by its name; where only its address is declared, that it is one of its own."""
    return "own" if "://" in text else text


def _cells(row: Row, shown: set[str]) -> list[str]:
    mean = f"**{points(row.mean)}**" if row.mean is not None else known(row.headline.values())
    tuned = row.base in shown
    if row.difference is not None and tuned:
        mean += f" ({gained(row.difference)})"
    benchmark = [row.scores[task].value if task in row.scores else None for task in BENCHMARK]
    return [
        ("↳ " if tuned else "") + _linked(row.model),
        parameters(row.facts.parameters),
        *(points(row.headline[task]) for task in HEADLINE),
        mean,
        points(row.benchmark) if row.benchmark is not None else known(benchmark),
        share(row.zero_shot),
        escaped(licence(row.facts.licence)) or "?",
        escaped(row.revision[:7] if re.fullmatch("[0-9a-f]{40}", row.revision) else row.revision[:24]),
        escaped(row.facts.released) or "?",
    ]


def _linked(model: str) -> str:
    """A name that the Hub could have as a link, any other as text."""
    is_hub = re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", model, re.ASCII)
    return f"[{escaped(model)}](https://huggingface.co/{model})" if is_hub else escaped(model)


def _source(source: Source) -> str:
    at = f" at `{source.commit[:8]}`" if source.commit else ""
    return f"[{escaped(source.name)}]({source.url}){at} ({source.date}, {source.licence})"


def escaped(text: str) -> str:
    """`text` in one line of Markdown, meaning nothing but itself."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", text) if re.search(r"[\\`*{}\[\]|~]", text) else text


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
