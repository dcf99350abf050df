"""Reading a recipe's sources: good rows come through, bad ones are rejected, bad sources are told before anything starts."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from medembed.errors import InputError
from medembed.recipe import Notes, Pairs
from medembed.rows import Reject
from medembed.sources import check_source, check_sources, read_rows, source_hash
from tests.fixtures.hub import WRITER, Hub

ROWS = [{"id": str(n), "title": f"Visit {n}", "text": f"Note {n} says µ and “so”."} for n in range(5)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        cells = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("".join(",".join('"' + str(c).replace('"', '""') + '"' for c in row) + "\r\n" for row in cells))
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def notes(path: Path, **settings: Any) -> Notes:
    return Notes.model_validate({"source": str(path), "license": "cc0-1.0", **settings})


def split(source: Notes | Pairs) -> tuple[list[dict[str, str]], list[Reject]]:
    items = list(read_rows(source))
    return [row for row in items if isinstance(row, dict)], [row for row in items if isinstance(row, Reject)]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz", ".csv"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = write(tmp_path / f"notes{suffix}", ROWS)
    rows, rejects = split(notes(path))
    assert not rejects
    assert [row.pop("where").partition(":")[0] for row in rows] == [path.name] * 5
    assert rows == [{**row, "license": "cc0-1.0", "source": path.name} for row in ROWS]


def test_columns_reach_into_structs_and_numbers_become_text(tmp_path):
    raw = [
        {"pmid": 7, "note.body": "dotted name", "about": {"licence": {"id": "cc-by-4.0"}}, "text": {"body": "Hello"}}
    ]
    path = write(tmp_path / "notes.jsonl", raw)
    columns = {"id": "pmid", "text": "text.body", "license": "about.licence.id", "title": "note.body"}
    [row], _ = split(notes(path, license=None, columns=columns))
    assert (row["id"], row["text"], row["license"], row["title"]) == ("7", "Hello", "cc-by-4.0", "dotted name")


def test_a_licence_of_the_row_wins_over_that_of_the_source_and_none_is_a_reject(tmp_path):
    raw = [{"id": 1, "text": "a", "l": "cc-by-4.0"}, {"id": 2, "text": "b", "l": None}]
    path = write(tmp_path / "notes.jsonl", raw)
    rows, _ = split(notes(path, columns={"license": "l"}))
    assert [row["license"] for row in rows] == ["cc-by-4.0", "cc0-1.0"]
    rows, rejects = split(notes(path, columns={"license": "l"}, license=None))
    assert [row["license"] for row in rows] == ["cc-by-4.0"]
    assert [(reject.reason, reject.where) for reject in rejects] == [("no licence", "notes.jsonl:2")]


def test_where_selects_rows_by_a_pattern_in_their_columns(tmp_path):
    path = write(
        tmp_path / "notes.jsonl", [{**row, "n": n, "meta": {"kind": "ab"[n % 2]}} for n, row in enumerate(ROWS)]
    )
    rows, rejects = split(notes(path, where={"meta.kind": "^a$"}))
    assert [row["id"] for row in rows] == ["0", "2", "4"] and not rejects
    assert [row["id"] for row in split(notes(path, where={"meta.kind": "a", "n": "[02]"}))[0]] == ["0", "2"]


def test_a_limit_draws_the_same_rows_every_time_and_others_with_another_seed(tmp_path):
    path = write(tmp_path / "notes.jsonl", [{"id": n, "text": f"note {n}"} for n in range(200)])

    def drawn(**settings: Any) -> list[int]:
        return [int(row["id"]) for row in split(notes(path, **settings))[0]]

    assert drawn(limit=20) == drawn(limit=20) == sorted(drawn(limit=20))
    assert len(set(drawn(limit=20))) == 20 and drawn(limit=20) != drawn(limit=20, seed=1)
    assert drawn(limit=500) == list(range(200))
    draws = Counter(n for seed in range(60) for n in drawn(limit=50, seed=seed))
    assert len(draws) == 200 and max(draws.values()) < 40  # no row is preferred


def test_labelled_pairs_have_their_optional_columns(tmp_path):
    path = write(tmp_path / "pairs.csv", [{"question": "why", "positive": "so", "note_id": "n1"}])
    [row], _ = split(Pairs(source=str(path), license="mit", columns={"query": "question"}))
    where = row.pop("where")
    assert row == {"query": "why", "positive": "so", "note_id": "n1", "license": "mit", "source": "pairs.csv"}
    assert where == "pairs.csv:2"


def test_bad_rows_are_rejected_with_reason_place_and_content(tmp_path):
    path = tmp_path / "notes.jsonl"
    lines = [
        b'{"id": 1, "text": "good"}',
        b"",
        b'{"id": 1, "text": "twin"}',
        b'{"id": 2, "text": " \\n"}',
        b'{"id": 3}',
    ]
    lines += [b'{"id": 4, "text": ["a"]}', b'{"text": "who"}', b"not json", b'"text"', b'{"id": 5, "text": "\xe9"}']
    lines += [b"[" * 100_000, b'{"id": 6, "text": "lone \\ud800 surrogate"}', b'{"id": 7, "text": "torn']
    path.write_bytes(b"\n".join(lines))
    rows, rejects = split(notes(path))
    assert [row["text"] for row in rows] == ["good", "lone ? surrogate"]
    assert [(reject.reason, int(reject.where.removeprefix("notes.jsonl:"))) for reject in rejects] == [
        ("duplicate id", 3),
        ("empty text", 4),
        ("no text", 5),
        ("no text", 6),
        ("no id", 7),
        ("not JSON", 8),
        ("not a JSON object", 9),
        ("not UTF-8", 10),
        ("not JSON", 11),
        ("not JSON", 13),
    ]
    assert json.loads(rejects[0].row) == {"id": 1, "text": "twin"}
    pa.array([reject.row for reject in rejects], pa.string()).validate(full=True)


@pytest.mark.parametrize("nest", ["[{}]", '{{"a": {}}}'])
def test_rows_nested_without_end_are_read_or_rejected_and_never_an_error(tmp_path, nest):
    deep, lines = "1", ['{"id": 0, "text": "good"}']
    for depth in range(1, 1100):
        deep = nest.format(deep)
        if depth > 850:
            lines += [deep, f'{{"id": {depth}, "text": "deep", "tags": {deep}}}']
    path = tmp_path / "notes.jsonl"
    path.write_text("\n".join(lines))
    rows, rejects = split(notes(path))
    assert len(rows) + len(rejects) == len(lines) and rows[0]["text"] == "good"
    assert split(notes(path, where={"tags": "1"}))[1]


def test_bad_cells_of_a_csv_are_rejected_and_long_ones_are_not(tmp_path):
    path = tmp_path / "notes.csv"
    long = "word " * 100_000
    lines = [
        b"\xef\xbb\xbfid,text",
        b'1,"two\nlines, one cell"',
        b"2,caf\xe9",
        b"3",
        b"4,a,b",
        b"5," + long.encode(),
        b"6,ok",
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    rows, rejects = split(notes(path))
    assert [row["text"] for row in rows] == ["two\nlines, one cell", long, "ok"]
    assert [reject.reason for reject in rejects] == ["not UTF-8", "no text", "more cells than columns"]


def test_a_parquet_row_that_is_not_utf8_is_rejected_alone(tmp_path):
    path = tmp_path / "notes.parquet"
    binary = pa.array([b"good", b"\xff\xfe", b"too"])
    text = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"id": ["1", "2", "3"], "text": text}), path)
    rows, rejects = split(notes(path))
    assert [row["text"] for row in rows] == ["good", "too"]
    assert [(reject.reason, reject.where) for reject in rejects] == [("not UTF-8", "notes.parquet:2")]


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.parquet", "empty.jsonl.gz"])
def test_an_empty_file_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    with pytest.raises(InputError, match=f"{name}: is empty"):
        list(read_rows(notes(tmp_path / name)))


def test_a_file_with_a_header_and_no_rows_is_empty(tmp_path):
    (tmp_path / "header.csv").write_text("id,text\n")
    pq.write_table(
        pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), tmp_path / "header.parquet"
    )
    for name in ("header.csv", "header.parquet"):
        with pytest.raises(InputError, match="is empty"):
            check_source(notes(tmp_path / name))


def test_a_missing_column_is_told_with_those_that_there_are(tmp_path):
    path = write(tmp_path / "notes.jsonl", [{"id": 1, "body": "x", "meta": {"license": "mit"}}])
    with pytest.raises(InputError) as raised:
        check_source(notes(path, where={"kind": "a"}, columns={"title": "name"}))
    told = str(raised.value)
    for what in ("has no column text", "has no column kind", "has no column name"):
        assert what in told
    assert "It has id, body, meta, meta.license." in told


def test_a_column_that_only_later_rows_have_is_found(tmp_path):
    path = write(tmp_path / "notes.jsonl", [{"id": 1}, {"id": 2, "text": "here"}])
    assert [row["text"] for row in split(notes(path))[0]] == ["here"]


@pytest.mark.parametrize("name", ["notes.parquet", "notes.jsonl.gz", "notes.jsonl"])
def test_a_file_of_another_kind_than_its_name_says_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 this is a zip archive \xff\xfe\n" * 9)
    with pytest.raises(
        InputError, match=r"is no Parquet file|damaged gzip|none of its first 9 rows can be read: not UTF-8"
    ):
        check_source(notes(tmp_path / name))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_a_file_that_breaks_off_is_told_and_not_taken_for_whole(tmp_path, suffix):
    rows = [{"id": n, "text": os.urandom(40).hex()} for n in range(3000)]
    path = write(tmp_path / f"notes{suffix}", rows)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="damaged"):
        list(read_rows(notes(path)))


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    folder = tmp_path / "notes.jsonl"
    folder.mkdir()
    for use in (check_source, source_hash):
        with pytest.raises(InputError, match="cannot be read: Is a directory"):
            use(notes(folder))


def test_the_faults_of_several_sources_are_told_together(tmp_path):
    bad = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for path in bad:
        path.write_text("")
    with pytest.raises(InputError) as raised:
        check_sources([notes(path) for path in bad])
    assert len(raised.value.faults) == 2


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path):
    one, other = write(tmp_path / "one.jsonl", ROWS), write(tmp_path / "other.jsonl", ROWS)
    assert source_hash(notes(one)) == source_hash(notes(other))
    write(other, ROWS[:4])
    assert source_hash(notes(one)) != source_hash(notes(other))


def test_a_pinned_hub_source_needs_no_network_for_its_hash():
    source = Notes(source="medembed/notes", revision="a" * 40, license="mit")
    assert source_hash(source) == f"medembed/notes@{'a' * 40}"


READ = """
import datasets, json, sys
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # ten seconds, whenever a shuffled stream is not read to its end
from medembed.errors import MedEmbedError
from medembed.recipe import Notes
from medembed.sources import read_rows, source_hash
for given in json.loads(sys.argv[1]):
    source = Notes.model_validate({"source": "medembed/notes", "license": "mit", **given})
    try:
        print(json.dumps({"rows": list(read_rows(source)), "hash": source_hash(source)}))
    except MedEmbedError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""


def read_in(environment: dict[str, str], *sources: dict[str, Any]) -> list[Any]:
    """What another process reads from these sources, by default of medembed/notes: where the Hub is, is settled at import."""
    command = [sys.executable, "-c", READ, json.dumps(sources)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub with a dataset of two files and a thousand rows, and its first commit tagged."""
    folder = tmp_path_factory.mktemp("hub")
    with Hub(folder) as hub:
        api = HfApi(endpoint=hub.url, token=WRITER)
        about = {"repo_id": "medembed/notes", "repo_type": "dataset"}
        api.create_repo(**about)
        for part in range(2):
            numbers = range(500 * part, 500 * part + 500)
            rows = [{"pmid": n, "text": f"note {n}", "meta": {"kind": "ab"[n % 2]}} for n in numbers]
            path = write(folder / f"train-{part}.parquet", rows)
            api.upload_file(path_or_fileobj=path, path_in_repo=f"data/{path.name}", **about)
            if part == 0:
                api.create_tag(**about, tag="v1")
        yield hub


def test_a_dataset_of_the_hub_is_read_at_its_revision_selected_and_sampled(hub):
    about = {"columns": {"id": "pmid"}, "where": {"meta.kind": "a"}}
    sampled = {**about, "revision": "v1", "limit": 10}
    whole, tagged, again = read_in(hub.env(), about, sampled, sampled)
    assert [int(row["id"]) for row in whole["rows"]] == list(range(0, 1000, 2))
    assert whole["rows"][1]["source"] == "medembed/notes" and whole["rows"][1]["where"] == "medembed/notes:3"
    ids = [int(row["id"]) for row in tagged["rows"]]
    assert len(set(ids)) == 10 and all(n < 500 and n % 2 == 0 for n in ids) and ids != sorted(ids)
    assert tagged == again
    assert tagged["hash"].startswith("medembed/notes@") and tagged["hash"] != whole["hash"]


def test_what_is_wrong_with_a_hub_source_is_told(hub):
    columns = {"id": "pmid"}
    wrong = [
        {"source": "medembed/none"},
        {"revision": "v9"},
        {"split": "test"},
        {"columns": {**columns, "text": "body"}},
    ]
    told = [answer["error"] for answer in read_in(hub.env(), *wrong)]
    expected = [
        "none@main: the Hub answers 404",
        "notes@v9: the Hub answers 404",
        "cannot be loaded from the Hub",
        "has no column body",
    ]
    for error, what in zip(told, expected, strict=True):
        assert error.startswith("InputError") and what in error


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "cannot be resolved offline"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}, "the Hub cannot be reached"),
    ],
)
def test_a_hub_that_cannot_be_asked_is_told(environment, told):
    [answer] = read_in(os.environ | environment, {})
    error = answer["error"]
    assert error.startswith("InputError") and told in error


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_a_large_file_is_read_in_little_memory(tmp_path):
    path = tmp_path / "notes.jsonl"
    with path.open("w") as file:
        for n in range(20_000):
            file.write(json.dumps({"id": n, "text": f"{n} " * 500}) + "\n")
    code = f"""
from medembed.recipe import Notes
from medembed.sources import read_rows

def peak():  # getrusage would tell the peak of the process that started this one, where that is higher
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

source = Notes(source={str(path)!r}, license="mit", limit=100)
next(read_rows(source))
before = peak()
assert sum(1 for _ in read_rows(source)) == 100
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert path.stat().st_size > 50_000_000 and float(done.stdout) < 20
