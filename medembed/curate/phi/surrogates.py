"""Findings → surrogates: within a note the same value always becomes the same `[NAME-1]`, in passages, queries and evidence alike.

What is known of a note (its names, its new id, the numbers of its values, how its passages were changed) lies in a temporary SQLite
database, which is gone with the process: memory does not grow with the data, and no list of identifiers is left behind.
"""

import json
import re
import sqlite3
from collections.abc import Iterable

from medembed.curate.phi.classes import PhiClass, surrogate
from medembed.curate.phi.spans import Finding, plain
from medembed.curate.phi.vocabulary import words
from medembed.rows import content_id, fold_quotes, plain_quotes

# What follows a word of a surrogate: Mrs. Phone must not be found in `[PHONE-1]`.
_REST_OF_SURROGATE = r"(?:-[A-Z]+)*-\d+\]"
KNOWN = 0.7  # how sure a known name is: less than an e-mail address that holds it, which is one finding


class Known:
    """What has been seen in each note."""

    def __init__(self) -> None:
        self._file = sqlite3.connect(
            ""
        )  # SQLite's temporary database: in memory while small, then in a file without a name
        self._file.executescript(
            """
            PRAGMA journal_mode = OFF;
            CREATE TABLE names (note, name, folded, PRIMARY KEY (note, name)) WITHOUT ROWID;
            CREATE TABLE numbers (note, kind, value, number INT, PRIMARY KEY (note, kind, value)) WITHOUT ROWID;
            CREATE TABLE notes (note PRIMARY KEY, first, id) WITHOUT ROWID;
            CREATE INDEX by_first ON notes (first);
            CREATE TABLE came (passage_id, note, UNIQUE (passage_id, note));
            CREATE TABLE went (passage_id, note, UNIQUE (passage_id, note));
            CREATE TABLE changed (passage_id, note, text, findings);
            CREATE INDEX by_new_passage ON changed (passage_id);
            """
        )

    def belongs(self, passage_id: str, note: str) -> None:
        """A passage, as it comes in, is of this note; the first that is told is its own."""
        self._file.execute("INSERT OR IGNORE INTO came VALUES (?, ?)", [passage_id, note])

    def notes_of(self, passage_id: str) -> list[str]:
        """The notes of a passage as it comes in; its own first."""
        return self._notes("SELECT note FROM came WHERE passage_id = ? ORDER BY rowid", passage_id)

    def goes_out(self, passage_id: str, notes: list[str]) -> None:
        """A passage of these notes has become this one."""
        self._file.executemany("INSERT OR IGNORE INTO went VALUES (?, ?)", [(passage_id, note) for note in notes])

    def notes_gone_out(self, passage_id: str) -> list[str]:
        """The notes of all passages that have become this one; first the one by whose id it goes."""
        return self._notes("SELECT note FROM went WHERE passage_id = ? ORDER BY rowid", passage_id)

    def _notes(self, asked: str, passage_id: str) -> list[str]:
        return [note for (note,) in self._file.execute(asked, [passage_id])]

    def learn(self, note: str, name: str) -> None:
        """A name found somewhere in the note, from now on looked for in all of it: whole, and each part that can stand alone.

        Parts of two letters are surnames (Ng, Li, Wu), but for particles. Words of every day (May, Will) begin too many sentences.
        """
        name = " ".join(plain(name).split())
        parts = {part.strip(".'") for part in re.split(r"[\s,-]+", name)}
        alone = {each for each in parts if each.lower() not in words("ordinary") and _can_stand_alone(each)}
        self._file.executemany(
            "INSERT OR IGNORE INTO names VALUES (?, ?, ?)",
            [(note, each, each.casefold()) for each in sorted({name} | alone)],
        )

    def names(self, notes: Iterable[str], text: str) -> list[Finding]:
        """Where the names of these notes stand in `text`, as words of their own, in whatever case: queries are typed in small letters.

        One that is a word as well counts as it was written: «Sharp» and not «sharp».
        """
        text = plain(text)
        there = "SELECT name FROM names WHERE note = ? AND instr(?, folded)"
        return [
            Finding(*match.span(), "name", KNOWN)
            for note in notes
            for (name,) in self._file.execute(there, [note, " ".join(text.split()).casefold()])
            for match in re.finditer(
                rf"(?<!\w){_anyhow_spaced(name)}(?!\w|{_REST_OF_SURROGATE})",
                text,
                0 if _is_word(name) or _is_homonym(name) else re.IGNORECASE,
            )
        ]

    def redacted(self, note: str, text: str, findings: list[Finding]) -> str:
        pieces, last = [], 0
        for start, end, kind, _ in findings:
            pieces += [text[last:start], surrogate(kind, self._number(note, kind, text[start:end]))]
            last = end
        return "".join([*pieces, text[last:]])

    def _number(self, note: str, kind: PhiClass, value: str) -> int:
        """Values of a class are numbered in the order in which a note's passages and pairs are gone through."""
        key = [note, kind, fold_quotes(plain(value)).casefold()]
        where = "FROM numbers WHERE note = ? AND kind = ?"
        found = self._file.execute(f"SELECT number {where} AND value = ?", key).fetchone()
        if not found:
            found = self._file.execute(f"SELECT count(*) + 1 {where}", key[:2]).fetchone()
            self._file.execute("INSERT INTO numbers VALUES (?, ?, ?, ?)", [*key, *found])
        return int(found[0])

    def named(self, note: str, passage_id: str) -> str:
        """The id under which the note of a passage goes out: made of the first of its passages, as they go out.

        One that is made of what the note said, or of how its source calls it, could be guessed: there are few record numbers.
        """
        found = self._file.execute("SELECT id FROM notes WHERE note = ?", [note]).fetchone()
        if not found:
            alike = self._file.execute("SELECT count(*) FROM notes WHERE first = ?", [passage_id]).fetchone()
            found = [content_id("note", passage_id, str(*alike))]
            self._file.execute("INSERT INTO notes VALUES (?, ?, ?)", [note, passage_id, *found])
        return str(found[0])

    def remember(self, passage_id: str, note: str, text: str, findings: list[Finding]) -> None:
        """A text that was redacted for the passage with this id: evidence is quoted from what it was."""
        self._file.execute("INSERT INTO changed VALUES (?, ?, ?, ?)", [passage_id, note, text, json.dumps(findings)])

    def evidence(self, passage_id: str, span: str) -> str | None:
        """What the stretch of a passage that `span` quotes has become, findings that it cuts whole; None when it is not from there."""
        spoken = fold_quotes(span).split()
        if not spoken:
            return None
        quoted = re.compile(r"\s+".join(map(re.escape, spoken)))
        rows = self._file.execute(
            "SELECT note, text, findings FROM changed WHERE passage_id = ? ORDER BY rowid", [passage_id]
        )
        for note, text, said in rows:
            if match := quoted.search(plain_quotes(text)):
                findings = [Finding(*each) for each in json.loads(said)]
                touched = [each for each in findings if each.start < match.end() and match.start() < each.end]
                start = min([match.start(), *(each.start for each in touched)])
                end = max([match.end(), *(each.end for each in touched)])
                inside = [each._replace(start=each.start - start, end=each.end - start) for each in touched]
                return self.redacted(note, text[start:end], inside)
        return None


def _can_stand_alone(part: str) -> bool:
    """Whether a part of a name is more than an initial, a particle or what follows a name."""
    return len(part) > 2 or (part.istitle() and len(part) == 2 and part not in _NOT_ALONE)


_NOT_ALONE = frozenset("Al Da De Di Do Du El Ii Jr La Le Mc Sr St".split())  # noqa: SIM905


def _anyhow_spaced(name: str) -> str:
    return r"\s+".join(map(re.escape, name.split()))


def _is_word(name: str) -> bool:
    """Whether it is rather a word, or the name of a sign or an instrument, where it stands alone."""
    return any(name.lower() in words(of) for of in ("ordinary", "eponyms", "ambiguous"))


def _is_homonym(name: str) -> bool:
    """Whether it is a name, where it stands alone, but in another case a word or an abbreviation."""
    return len(name) < 3 or name.lower() in words("homonyms")
