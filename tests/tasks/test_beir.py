"""What a BEIR folder may hold, and what is told of one that cannot be used."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medembed.errors import InputError
from medembed.tasks import beir
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        beir.read(folder)
    return [f"{Path(fault.where).name}: {fault.what}" for fault in caught.value.faults]


def test_passages_queries_and_graded_judgments_are_read(tmp_path: Path) -> None:
    found = beir.read(write_beir(tmp_path / "it"))
    assert found.passages["d1"] == ("Chest pain", "acute chest pain in heart failure, high blood pressure")
    assert found.queries == dict(QUERIES)
    assert found.judgments["q1"] == {"d1": 2, "d5": 1}
    assert found.judgments["q3"] == {"d3": 1, "d9": 0}


def test_a_query_that_no_judgment_names_is_not_asked_and_counted(tmp_path: Path) -> None:
    found = beir.read(write_beir(tmp_path / "it", judgments=JUDGMENTS[:4]))
    assert (list(found.queries), found.unjudged) == (["q1", "q2"], 4)


def test_every_mistake_of_every_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "it")
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write(
            b'not json\n{"_id": "d1", "text": "again"}\n{"title": "no id"}\n[1]\n{"_id": 7, "text": "x"}\n\xff\xfe\n'
        )
        file.write(b'{"_id": "d20", "text": null}\n{"_id": "d21", "text": "half \\ud800 a pair"}\n')
    with (folder / "queries.jsonl").open("a") as file:
        file.write('\n{"_id": "q7", "text": "  "}\n{"_id": "q8"}\n')
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\td1\t1\nq1\td2\t-1\nq1\td3\t0.5\nq1 d4 1\n")
    assert faults_of(folder) == [
        "corpus.jsonl:13: is not JSON (2 lines in all)",
        "corpus.jsonl:14: the `_id` stands on an earlier line, too",
        "corpus.jsonl:15: lacks `_id` and `text`",
        "corpus.jsonl:16: is not a JSON object",
        "corpus.jsonl:17: `_id` is not a text of printable characters",
        "corpus.jsonl:19: `text` or `title` is not a text (2 lines in all)",
        "queries.jsonl:8: the text of a query is empty",
        "queries.jsonl:9: lacks `text`",
        "test.tsv:13: judges the same query and passage as an earlier line",
        "test.tsv:14: the score is not a whole number, 0 or more (2 lines in all)",
        "test.tsv:16: is not three columns, parted by tabs",
    ]


def test_judgments_of_what_is_not_there_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    strange = [("q1", f"x{n}", 1) for n in range(5)] + [("nobody", "d1", 1)]
    folder = write_beir(tmp_path / "it", judgments=JUDGMENTS + strange)
    assert faults_of(folder) == [
        "test.tsv: judges queries that queries.jsonl lacks: 1 (nobody)",
        "test.tsv: judges passages that corpus.jsonl lacks: 5 (x0, x1, x2 …)",
    ]


def test_a_query_without_a_relevant_passage_is_a_fault(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "it", judgments=[("q1", "d1", 1), ("q2", "d2", 0)])
    assert faults_of(folder) == ["test.tsv: leaves queries without a relevant passage: 1 (q2)"]


def test_empty_files_and_a_missing_header_are_faults(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "it", passages=[], queries=[], judgments=[])
    assert {"corpus.jsonl: is empty", "queries.jsonl: is empty", "test.tsv: is empty"} == set(faults_of(folder))
    folder = write_beir(tmp_path / "other")
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    assert faults_of(folder)[0].startswith("test.tsv:1: the first line is not the header")


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    assert [fault.split(":")[0] for fault in faults_of(tmp_path)] == ["corpus.jsonl", "queries.jsonl", "test.tsv"]


def test_the_only_split_is_taken_and_of_several_the_test_split(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "it", split="dev")
    assert beir.files(folder)[2].name == "dev.tsv"
    (folder / "qrels" / "train.tsv").write_text("")
    assert faults_of(folder) == ["test.tsv: there is no such file"]
    (folder / "qrels" / "test.tsv").write_bytes((folder / "qrels" / "dev.tsv").read_bytes())
    assert beir.files(folder)[2].name == "test.tsv"


def test_faults_do_not_carry_the_text_of_a_query(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "it", queries=[*QUERIES, ("q1", "a secret question")])
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "a secret note')
    with pytest.raises(InputError) as caught:
        beir.read(folder)
    assert "secret" not in str(caught.value)


def test_the_content_hash_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, same = write_beir(tmp_path / "a" / "it"), write_beir(tmp_path / "b" / "it")
    assert beir.content_hash(first) == beir.content_hash(same)
    other = write_beir(tmp_path / "c" / "it", passages=PASSAGES[::-1])
    assert beir.content_hash(first) != beir.content_hash(other)


lines = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(
        st.sampled_from(["_id", "text", "title"]), st.one_of(st.text(max_size=5), st.none(), st.integers())
    ).map(lambda row: json.dumps(row).encode()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"]), junk=st.lists(lines, max_size=4))
def test_whatever_the_files_hold_it_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, name, junk) -> None:
    folder = write_beir(tmp_path_factory.mktemp("junk") / "it")
    with (folder / name).open("ab") as file:
        file.write(b"\n".join(junk))
    try:
        assert beir.read(folder).passages
    except InputError as error:
        assert error.faults


def test_a_query_may_say_which_note_it_is_about(tmp_path) -> None:
    assert beir.read(write_beir(tmp_path / "it", notes={"q1": "n7", "q2": "n7"})).notes == {"q1": "n7", "q2": "n7"}
    with pytest.raises(InputError, match=r"`metadata.note_id` is not a text"):
        beir.read(write_beir(tmp_path / "other", notes={"q1": ["n7"]}))
