"""No text of an evaluation task gets past: by its words, by a run of them, or by what it means."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medembed.curate.decontaminate import check, reads, sieve
from medembed.curate.sieve import Sieve, Stored
from medembed.errors import InputError
from medembed.recipe import Decontaminate
from medembed.rows import CORPUS, PAIRS
from tests.fixtures.beir import write_beir

THEIRS = [
    ("d1", "Furosemide", "is a loop diuretic that is given for oedema in heart failure and in renal disease"),
    ("d2", "", "see above"),
]
QUERY = ("q1", "why was the water tablet of the old man stopped on Monday")
SHORT = ("q2", "water tablets")
JUDGED = [("q1", "d1", 1), ("q2", "d1", 1)]

CLEAN = "A statin was begun in the morning for a raised cholesterol of the younger patient."


def task(folder: Path, **given: Any) -> str:
    return str(write_beir(folder, **{"passages": THEIRS, "queries": [QUERY, SHORT], "judgments": JUDGED, **given}))


def stored(folder: Path, queries: list[str], passages: list[tuple[str, str]]) -> Stored:
    """Rows on disk: the queries, and the passages as (title, text)."""
    corpus = [{"passage_id": f"p{i}", "title": title, "text": text} for i, (title, text) in enumerate(passages)]
    pairs = [{"query": query, "positive": "…", "passage_id": "p0"} for query in queries]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(pairs, schema=PAIRS), folder / "pairs.parquet")
    pq.write_table(pa.Table.from_pylist(corpus, schema=CORPUS), folder / "passages.parquet")
    return Stored(folder / "pairs.parquet", folder / "passages.parquet", folder / "cache", folder)


def judge(made: Sieve, given: Stored) -> tuple[list[str], list[str]]:
    """The texts of the queries and of the passages that are left."""
    passages = [row for row in given.passages() if isinstance(made.passage(row), dict)]
    pairs = [row for row in given.pairs() if isinstance(made.pair(row), dict)]
    return [row["query"] for row in pairs], [row["text"] for row in passages]


def left(
    folder: Path, queries: list[str], passages: list[tuple[str, str]], **setting: Any
) -> tuple[list[str], list[str]]:
    given = stored(folder / "ours", queries, passages)
    return judge(sieve(Decontaminate(tasks=[task(folder / "theirs")], **setting), given), given)


def test_a_query_of_the_task_goes_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    assert left(tmp_path, ["Water tablets?!", "water  TABLETS", "water tablets at night"], [])[0] == [
        "water tablets at night"
    ]


def test_a_query_that_is_a_passage_of_few_words_is_not_taken_for_a_query_of_the_task(tmp_path: Path) -> None:
    assert left(tmp_path, ["see above"], []) == (["see above"], [])


def test_eight_words_in_a_row_of_a_query_or_passage_mark_query_and_passage_and_seven_do_not(tmp_path: Path) -> None:
    eight, seven = "a loop diuretic that is given for oedema", "loop diuretic that is given for oedema"
    of_query = "today the water tablet of the old man stopped"
    queries, passages = left(
        tmp_path,
        [f"is it {eight}?", f"is it {seven}?", f"{of_query} working"],
        [("", f"It is «{eight.upper()}», he said."), ("", f"It is {seven}, he said."), ("", of_query), ("", CLEAN)],
    )
    assert queries == [f"is it {seven}?"]
    assert passages == [f"It is {seven}, he said.", CLEAN]


def test_the_number_of_words_is_the_recipes(tmp_path: Path) -> None:
    five = ("", "We know that a loop diuretic that helps is cheap.")
    assert left(tmp_path / "8", [], [five])[1] == [five[1]]
    assert left(tmp_path / "4", [], [five], ngram=4)[1] == []


def test_boilerplate_of_a_task_marks_nothing_and_is_told(tmp_path: Path) -> None:
    phrase = "these resources offer information about the diagnosis and the management"
    theirs = [(f"d{i}", "", f"{i} {phrase} of disease {i}") for i in range(3)]
    ours = [("", f"Of gout: {phrase} of it."), ("", f"Again: {phrase} of disease 2.")]
    queries = [QUERY[1]]
    asked: dict[str, Any] = {"judgments": [("q1", "d1", 1)], "passages": theirs}
    folder = task(tmp_path / "theirs", **asked)
    given = stored(tmp_path / "ours", queries, ours)
    for setting, passages, said in (({}, [], None), ({"boilerplate": 3}, ours[:1], 5)):
        made = sieve(Decontaminate.model_validate({"tasks": [folder]} | setting), given)
        assert judge(made, given) == (
            [],
            [text for _, text in passages],
        )  # a query of the task goes, whatever it shares
        assert made.facts()["tasks"]["theirs"].get("boilerplate") == said


def test_title_and_text_are_one_passage(tmp_path: Path) -> None:
    text = "is a loop diuretic that is given to some."  # seven of their words, and their title before them
    given = stored(tmp_path / "ours", [], [("Furosemide", text), ("", text)])
    made = sieve(Decontaminate(tasks=[task(tmp_path / "theirs")]), given)
    assert [isinstance(made.passage(row), dict) for row in given.passages()] == [False, True]


def test_a_passage_of_few_words_goes_when_it_is_one_of_theirs(tmp_path: Path) -> None:
    assert left(tmp_path, [], [("", "See above."), ("", "see above and below")])[1] == ["see above and below"]


def test_an_empty_text_meets_nothing(tmp_path: Path) -> None:
    folder = task(tmp_path / "theirs", passages=[*THEIRS, ("d3", "", "")])
    given = stored(tmp_path / "ours", ["", "?"], [("", ""), ("", "…")])
    assert judge(sieve(Decontaminate(tasks=[folder]), given), given) == (["", "?"], ["", "…"])


def test_the_first_task_is_the_reason_and_each_task_is_told_all_that_it_touched(tmp_path: Path) -> None:
    tasks = [task(tmp_path / "one"), task(tmp_path / "two", queries=[QUERY, ("q2", "pills")])]
    given = stored(tmp_path / "ours", ["Water tablets", "pills", QUERY[1], CLEAN], [("", THEIRS[0][2]), ("", CLEAN)])
    made = sieve(Decontaminate(tasks=tasks), given)
    reasons = [made.pair(row) for row in given.pairs()]
    assert reasons[:3] == ["decontaminate: one", "decontaminate: two", "decontaminate: one"]
    assert [isinstance(made.passage(row), dict) for row in given.passages()] == [False, True]
    facts = made.facts()
    assert (facts["ngram"], facts["near"], list(facts["tasks"])) == (8, None, ["one", "two"])
    assert facts["tasks"]["one"] | {"revision": ""} == {
        "revision": "",
        "queries": 2,
        "passages": 2,
        "removed": {
            "queries": {"query match": 2, "n-gram": 0, "near": 0},
            "passages": {"passage match": 0, "n-gram": 1, "near": 0},
        },
    }
    assert facts["tasks"]["two"]["removed"]["queries"]["query match"] == 2
    assert made.pair({"query": "Water tablets"}) == "decontaminate: one"


def test_a_text_that_means_the_same_goes_by_its_embedding(tmp_path: Path, tiny_model: Path) -> None:
    """A tiny random model sees words in any order as close: the same words, shuffled, share no n-gram."""
    shuffled = " ".join(sorted(THEIRS[0][2].split()))
    given = stored(
        tmp_path / "ours", ["tablets water", "fever and cough"], [("", f"Furosemide {shuffled}"), ("", CLEAN)]
    )
    setting = {"tasks": [task(tmp_path / "theirs")], "near": 0.99, "retriever": str(tiny_model)}
    made = sieve(Decontaminate.model_validate(setting), given)
    assert judge(made, given) == (["fever and cough"], [CLEAN])
    removed = made.facts()["tasks"]["theirs"]["removed"]
    assert (removed["queries"]["near"], removed["passages"]["near"]) == (1, 1)
    assert list((tmp_path / "ours" / "cache").glob("*"))  # embeddings are kept: a killed run goes on from there


def test_a_task_that_cannot_be_read_stops_everything_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    tasks = [task(tmp_path / "good"), str(tmp_path / "empty"), "NFCorpsu"]
    for looks in (check, lambda setting: sieve(setting, stored(tmp_path / "ours", ["a"], []))):
        with pytest.raises(InputError) as caught:
            looks(Decontaminate(tasks=tasks))
        told = [str(fault) for fault in caught.value.faults]
        assert len(told) == 4 and sum("there is no such file" in fault for fault in told) == 3
        assert "mteb has no task 'NFCorpsu'" in told[-1]


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    tasks = [task(tmp_path / place / "mine") for place in "ab"]
    with pytest.raises(InputError, match="tasks of the same name: mine"):
        check(Decontaminate(tasks=tasks))


def test_the_stage_is_done_again_when_a_folder_changes(tmp_path: Path) -> None:
    setting = Decontaminate(tasks=[task(tmp_path / "mine")])
    before = reads(setting)
    (tmp_path / "mine" / "queries.jsonl").open("a").write(json.dumps({"_id": "q9", "text": "new"}) + "\n")
    assert list(before) == ["mine"] and reads(setting) != before


def test_words_alone_need_neither_torch_nor_mteb(tmp_path: Path) -> None:
    given = stored(tmp_path / "ours", ["a"], [("", "b")])
    program = (
        "import sys; from medembed.curate.decontaminate import sieve; from medembed.curate.sieve import Stored;"
        "from medembed.recipe import Decontaminate; from pathlib import Path;"
        f"paths = [Path(p) for p in {[str(given.pairs_path), str(given.passages_path), str(given.cache), str(given.scratch)]}];"
        f"sieve(Decontaminate(tasks=[{task(tmp_path / 'mine')!r}]), Stored(*paths));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mteb', 'datasets', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ)).returncode == 0


@pytest.mark.realdata
def test_no_query_and_no_n_gram_of_a_real_task_is_left(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "eval" / "medquad-dev"
    queries = [json.loads(line)["text"] for line in (folder / "queries.jsonl").open()]
    given = stored(tmp_path / "ours", queries, [("", CLEAN)])
    assert judge(sieve(Decontaminate(tasks=[str(folder)]), given), given) == ([], [CLEAN])
