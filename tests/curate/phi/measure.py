"""Recall and precision of the gate by class, on the parts of the labelled sample: `python -m tests.curate.phi.measure`.

A marked span counts as found when a finding of its class overlaps it and nothing of it but punctuation is left uncovered by findings
of any class (what is redacted is gone, whatever it is called). A finding counts as right when it overlaps a marked span.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from medembed.curate.phi.classes import CLASSES
from medembed.curate.phi.engine import Finder
from medembed.curate.phi.spans import Finding, merged
from medembed.curate.phi.surrogates import Known
from medembed.recipe import Phi

HALVES = ("developed", "held-out")
PARTS = (*HALVES, "typography")  # the last of other spellings, also held out; it has not all classes
LOOK_ALIKE = "-"
_MARK = re.compile(r"\{\{([^:{}]+):(.+?)\}\}")


@dataclass
class Score:
    """Numbers by class: spans marked, found, found under another class' name; findings in all, and those that are of nothing."""

    marked: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    misnamed: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)  # what was missed and what was wrong, to read

    def recall(self, kind: str) -> float:
        return (self.found[kind] + self.misnamed[kind]) / max(self.marked[kind], 1)

    def precision(self, kind: str) -> float:
        return 1 - self.wrong[kind] / max(self.findings[kind], 1)


def notes(half: str) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """(text, marked spans) of each note of one half."""
    lines = (Path(__file__).parent / f"{half}.txt").read_text(encoding="utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("# "))
    return [unmarked(note) for note in body.split("\n\n") if note.strip()]


def unmarked(note: str) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans, last = "", [], 0
    for mark in _MARK.finditer(note):
        text += note[last : mark.start()]
        spans.append((len(text), len(text) + len(mark[2]), mark[1]))
        text += mark[2]
        last = mark.end()
    return text + note[last:], spans


def measure(finder: Finder, half: str) -> Score:
    score = Score()
    for text, spans in notes(half):
        known = Known()
        for each in finder.find(text, only="name"):
            known.learn("note", text[each.start : each.end])
        findings = merged([*finder.find(text), *known.names({"note"}, text)])
        for start, end, kind in spans:
            if kind not in (*CLASSES, LOOK_ALIKE):
                raise ValueError(f"no class {kind!r}")
            score.marked[kind] += 1
            over = [each for each in findings if each.start < end and start < each.end]
            if kind == LOOK_ALIKE:
                score.found[kind] += bool(over)
            elif covered(text, start, end, over):
                (score.found if any(each.kind == kind for each in over) else score.misnamed)[kind] += 1
            else:
                score.lines.append(f"missed {kind}: {text[start:end]!r}")
        for each in findings:
            score.findings[each.kind] += 1
            if not any(kind != LOOK_ALIKE and each.start < end and start < each.end for start, end, kind in spans):
                score.wrong[each.kind] += 1
                score.lines.append(f"wrong {each.kind}: {text[max(0, each.start - 20) : each.end + 10]!r}")
    return score


def covered(text: str, start: int, end: int, findings: list[Finding]) -> bool:
    left = {at for at in range(start, end) if text[at].isalnum()}
    return bool(findings) and not left.difference(*(range(each.start, each.end) for each in findings))


def table(scores: dict[str, Score]) -> str:
    head = " | ".join(f"{half}: spans | recall | precision" for half in scores)
    rows = [f"| class | {head} |", "|---|" + "---:|---:|---:|" * len(scores)]
    for kind in CLASSES:
        cells = [f"{s.marked[kind]} | {s.recall(kind):.2f} | {s.precision(kind):.2f}" for s in scores.values()]
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    totals = []
    for s in scores.values():
        marked = sum(s.marked[kind] for kind in CLASSES)
        found = sum(s.found[kind] + s.misnamed[kind] for kind in CLASSES)
        right = 1 - s.wrong.total() / max(s.findings.total(), 1)
        totals.append(f"{marked} | {found / max(marked, 1):.2f} | {right:.2f}")
    rows.append(f"| **all** | {' | '.join(totals)} |")
    alike = [f"{s.marked[LOOK_ALIKE]} | {s.found[LOOK_ALIKE]} found |" for s in scores.values()]
    rows.append(f"| look-alikes | {' | '.join(alike)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    import sys

    finder = Finder(Phi(policy="report"))
    scores = {part: measure(finder, part) for part in PARTS}
    print(table(scores))
    for half in sys.argv[1:]:
        print(f"\n{half}", *scores[half].lines, sep="\n")
    misnamed = {half: dict(each.misnamed) for half, each in scores.items()}
    print(f"\nfound under another class' name: {misnamed}")
