"""The gate for personal health information: passages and pairs come in; they go out counted, redacted, or not at all.

All rows are looked through once before, for names: what some passage, query or evidence of a note shows to be a name is one wherever it
stands in that note. Notes get new ids, which follow from what goes out alone. Nothing that is told (facts, reasons, errors) holds a value
that was found.
"""

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed import tables
from medembed.curate.phi.classes import CLASSES, DIRECT
from medembed.curate.phi.spans import Finding, Joint, masked, merged
from medembed.curate.phi.surrogates import Known
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.errors import InputError
from medembed.recipe import Phi
from medembed.rows import content_id, stands_in

if TYPE_CHECKING:
    from medembed.curate.phi.engine import Finder

ENGINE = "presidio-analyzer"
LOOKS = 3  # more, at a text in which something was found


def reads(setting: Phi) -> dict[str, str]:
    """What decides, besides the rows, what is found: versions of the engine and of the model for names.

    Raises:
        InputError: Presidio, or the spaCy model that finds names, is missing.
    """
    if not find_spec("presidio_analyzer"):
        mend = "Install it: pip install 'medembed[phi]'"
        raise InputError.of("the filter `phi` needs Presidio, which is not installed", "curate.phi", mend)
    versions = {name: version(name) for name in (ENGINE, "spacy")}
    return versions | {setting.model: _model_version(setting.model)} if setting.model else versions


def _model_version(model: str) -> str:
    if (Path(model) / "meta.json").is_file():
        return content_id((Path(model) / "meta.json").read_text(encoding="utf-8"))
    try:
        return version(model)
    except PackageNotFoundError as error:
        mend = f"Install it (python -m spacy download {model}), or leave it out: patterns alone then find names."
        raise InputError.of(f"there is no spaCy model {model}", "curate.phi.model", mend) from error


def sieve(setting: Phi, stored: Stored) -> Sieve:
    """Raises InputError as `reads` does."""
    reads(setting)
    from medembed.curate.phi.engine import Finder

    gate = _Gate(setting, Finder(setting))
    for row in chain(tables.rows(stored.passages_path, ["passage_id", "note_id"]), stored.shared()):
        gate.belongs(row["passage_id"], row["note_id"])
    for row in stored.passages():
        gate.learn(row, "title", "text")
    for row in stored.pairs():
        gate.learn(row, "query", "evidence")
    return Sieve(pair=gate.pair, passage=gate.passage, facts=gate.facts)


class _Gate:
    def __init__(self, setting: Phi, finder: "Finder") -> None:
        self._setting = setting
        self._finder = finder
        self._known = Known()
        self._found: Counter[str] = Counter()
        self._remaining: Counter[str] = Counter()

    def belongs(self, passage_id: str, note: str) -> None:
        self._known.belongs(passage_id, note)

    def learn(self, row: Row, *names: str) -> None:
        notes = self._known.notes_of(row["passage_id"])
        found = [
            row[name][each.start : each.end]
            for name in names
            if row[name]
            for each in self._finder.find(row[name], only="name")
        ]
        if joint := Joint.of(row):
            found += [joint.text[each.start : each.end] for each in joint.near(self._finder.find(joint.text, "name"))]
        for note in notes:
            for name in found:
                self._known.learn(note, name)

    def passage(self, row: Row) -> Row | str:
        notes = self._known.notes_of(row["passage_id"])
        findings = self._find(notes, row, "title", "text")
        said = self._judged(notes, row, findings)
        if isinstance(said, str):
            return said
        passage_id = row["passage_id"]
        if said != row:
            passage_id = content_id(said["title"], said["text"])
            for name, found in findings.items():
                if found:
                    self._known.remember(passage_id, notes[0], row[name], found)
        self._known.goes_out(passage_id, notes)
        return said | {"note_id": self._known.named(notes[0], passage_id)}

    def pair(self, row: Row) -> Row | str:
        """A pair whose positive and note are those of its passage as it is now."""
        notes = self._known.notes_gone_out(row["passage_id"])
        quoted = self._quoted(row)
        if quoted is None:
            return self._judged(notes, row, self._find(notes, row, "query", "evidence"))
        return self._judged(notes, row | {"evidence": quoted}, self._find(notes, row, "query"))

    def facts(self) -> dict[str, Any]:
        return {
            "policy": self._setting.policy,
            "engine": f"{ENGINE} {version(ENGINE)}",
            "names": self._setting.model or "patterns only",
            "found": _by_class(self._found),
            "remaining": _by_class(self._remaining),
            "direct": list(DIRECT),
        }

    def _find(self, notes: list[str], row: Row, *names: str) -> dict[str, list[Finding]]:
        """What is found in the texts of a row that have these names; `notes` are those whose names are known in it, its own first."""
        found = {name: self._found_in(notes, row[name]) for name in names if row[name]}
        if joint := Joint.of(row):
            for name, parts in joint.cut(self._found_in(notes, joint.text)).items():
                found[name] = merged(found[name] + parts)
        return found

    def _found_in(self, notes: list[str], text: str) -> list[Finding]:
        found = self._look(notes, text)
        # What stood too close to something else is only seen when that is gone: a phone number right behind a ZIP code.
        for _ in range(LOOKS):
            if not found or not (more := self._look(notes, masked(text, found))):
                break
            found = merged(found + more)
        return found

    def _look(self, notes: list[str], text: str) -> list[Finding]:
        return merged([*self._finder.find(text), *self._known.names(notes, text)])

    def _judged(self, notes: list[str], row: Row, findings: dict[str, list[Finding]]) -> Row | str:
        """The row as the policy lets it go on, or the reason why it does not; counts."""
        kinds = Counter(each.kind for found in findings.values() for each in found)
        self._found += kinds
        if not kinds:
            return row
        if self._setting.policy == "block":
            return f"personal health information: {min(kinds, key=CLASSES.index)}"
        if self._setting.policy == "report":
            self._remaining += kinds
            return row
        redacted = {name: self._known.redacted(notes[0], row[name], found) for name, found in findings.items() if found}
        row = row | redacted
        for left in self._find(notes, row, *findings).values():  # what is left is counted, not taken for granted
            self._remaining.update(each.kind for each in left)
        return row

    def _quoted(self, row: Row) -> str | None:
        """A pair's evidence as it stands in the positive now; None when there is none, or when it is not from there.

        The passage decides what of its evidence is personal: a quotation alone may look like less, or like more.
        """
        if not row["evidence"]:
            return None
        if stands_in(row["evidence"], row["positive"]):
            return str(row["evidence"])
        return self._known.evidence(row["passage_id"], row["evidence"])


def _by_class(counts: Counter[str]) -> dict[str, int]:
    return {kind: counts[kind] for kind in CLASSES if counts[kind]}
