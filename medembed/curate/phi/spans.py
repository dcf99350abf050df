"""Stretches of a text, and how what is seen there becomes findings that do not overlap."""

from collections.abc import Iterable
from typing import NamedTuple

from medembed.curate.phi.classes import CLASSES, PhiClass


class Finding(NamedTuple):
    """Characters `start` to `end` of a text, what they are, and how sure that is."""

    start: int
    end: int
    kind: PhiClass
    score: float = 1.0


def masked(text: str, findings: Iterable[Finding]) -> str:
    """`text` with what was found made unreadable, all else in its place."""
    for each in findings:
        length = each.end - each.start
        mask = f"[{'·' * (length - 2)}]" if length > 1 else "·"  # as a surrogate looks to the patterns
        text = text[: each.start] + mask + text[each.end :]
    return text


def merged(seen: Iterable[Finding]) -> list[Finding]:
    """What overlaps becomes one, whole, of the class that is surest, then longest, then first in the list."""
    findings: list[Finding] = []
    clusters: list[list[Finding]] = []
    reach = 0
    for each in sorted(seen):
        if not clusters or each.start >= reach:
            clusters.append([])
        clusters[-1].append(each)
        reach = max(reach, each.end)
    for cluster in clusters:
        best = min(cluster, key=lambda each: (-each.score, each.start - each.end, CLASSES.index(each.kind)))
        findings.append(best._replace(start=cluster[0].start, end=max(each.end for each in cluster)))
    return findings
