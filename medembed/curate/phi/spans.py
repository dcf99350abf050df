"""Stretches of a text: how it is read, and how what is seen there becomes findings that do not overlap."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from medembed.curate.phi.classes import CLASSES, PhiClass
from medembed.rows import plain_quotes

_PLAIN = str.maketrans(
    dict.fromkeys("\t\r\xa0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))), " ")
    | dict.fromkeys("\v\f\x85\u2028\u2029", "\n")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
    | dict.fromkeys("\u2044\u2215", "/")
)
AROUND = 256  # characters on each side of a joint; what begins at most a quarter of that from it may reach across


class Finding(NamedTuple):
    """Characters `start` to `end` of a text, what they are, and how sure that is."""

    start: int
    end: int
    kind: PhiClass
    score: float = 1.0


def plain(text: str) -> str:
    """`text` as patterns read it: blanks, ends of lines, dashes, slashes and quotes of typography made plain, each in its place."""
    return plain_quotes(text.translate(_PLAIN))


class Joint(NamedTuple):
    """Where title and text of a passage meet when they go out, as `rows.passage_input` joins them: `MRN:` and `4821337 was seen`."""

    text: str
    at: int  # the blank between the two
    before: int  # characters of the title that are left out

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Joint | None":
        """None for a pair, or a passage without a title."""
        if not row.get("title") or not row.get("text"):
            return None
        title = row["title"][-AROUND:]
        return cls(f"{title} {row['text'][:AROUND]}", len(title), len(row["title"]) - len(title))

    def near(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that the ends of what is looked at have not made."""
        return [each for each in findings if abs(each.start - self.at) <= AROUND // 4]

    def cut(self, findings: Iterable[Finding]) -> dict[str, list[Finding]]:
        """What of the findings lies in `title`, and what in `text`."""
        near, after = self.near(findings), self.at + 1
        return {
            "title": [
                each._replace(start=each.start + self.before, end=min(each.end, self.at) + self.before)
                for each in near
                if each.start < self.at
            ],
            "text": [
                each._replace(start=max(each.start, after) - after, end=each.end - after)
                for each in near
                if each.end > after
            ],
        }


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
