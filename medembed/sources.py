"""A recipe's sources, read: a `Notes` or `Pairs` source in; its rows under our names out, in their order, one at a time.

A source is a local Parquet, JSONL, JSONL.gz or CSV file or a repository of the Hub. What is wrong with the source as a whole is an
InputError before the first row; what is wrong with one row makes that row a `Reject`. So no input, however broken, stops a run half-way.
"""

import csv
import gzip
import hashlib
import heapq
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medembed.errors import Fault, InputError, RunError, all_told
from medembed.hub import commit_of
from medembed.recipe import Source, is_local
from medembed.rows import Reject, as_json, encodable
from medembed.run import sha256

Row = dict[str, str]  # our column names → text; always `where`, `source` and `license`

_LOOKED_AT = 100  # rows at a source's head that show its columns
_SHUFFLED = 1_000  # rows of a Hub source among which a sample is drawn, after its files are shuffled


_Raw = tuple[str, dict[str, Any]] | Reject  # where and the row as it was found


def read_rows(source: Source) -> Iterator[Row | Reject]:
    """The rows of a source that its `where` selects, all or `limit` of them; what cannot be used comes as a `Reject`.

    Raises:
        InputError: as `check_source`, or a file that breaks off.
        RunError: the Hub breaks off.
    """
    check_source(source)
    found = _selected(_raw_rows(source), source.where)
    if source.limit and is_local(source.source):
        found = _sample(found, source.limit, source.seed)
    ids: set[str] = set()
    for item in islice(found, source.limit):
        if isinstance(item, Reject):
            yield item
            continue
        where, raw = item
        row = _under_our_names(raw, source)
        if isinstance(row, dict) and row.get("id", "") in ids:
            row = "duplicate id"
        if isinstance(row, str):
            yield Reject(row, where, as_json(raw))
            continue
        if "id" in row:
            ids.add(row["id"])
        yield {**row, "where": where, "source": _name(source)}


def check_source(source: Source) -> None:
    """Open a source and look at its first rows.

    Raises:
        InputError: not there, not readable, empty, of another format, or without a column that the recipe needs.
    """
    whole = source.model_copy(update={"limit": None})  # to look at its columns, no sample has to be drawn
    head = list(islice(_raw_rows(whole), _LOOKED_AT))
    rows = [item[1] for item in head if not isinstance(item, Reject)]
    if not head:
        raise InputError.of("is empty: it holds no rows", source.source)
    if not rows:
        reasons = ", ".join(sorted({item.reason for item in head if isinstance(item, Reject)}))
        raise InputError.of(f"none of its first {len(head)} rows can be read: {reasons}", source.source)
    there = dict.fromkeys(name for row in rows for name in _columns_of(row))
    needed = [*map(source.column, source.required), *source.columns.values(), *source.where]
    mend = f"It has {', '.join(map(_shown, islice(there, 30)))}. Say which is ours under `columns`."
    faults = [
        Fault(f"has no column {name}", source.source, mend) for name in dict.fromkeys(needed) if name not in there
    ]
    if faults:
        raise InputError(*faults)


def check_sources(sources: Iterable[Source]) -> None:
    """`check_source` for each of several; the faults of all are told together."""
    all_told(partial(check_source, source) for source in sources)


def source_hash(source: Source) -> str:
    """What a source holds, in short: the SHA-256 of a local file, `repo@commit` of a Hub repository.

    Raises:
        InputError: the file cannot be read, or the repository not be resolved.
    """
    if not is_local(source.source):
        return f"{source.source}@{commit_of(source.source, 'dataset', source.revision)}"
    try:
        return sha256(Path(source.source))
    except OSError as error:
        raise InputError.of(f"cannot be read: {error.strerror}", source.source) from error


# ---- rows ------------------------------------------------------------------------------------------------------------


def _selected(items: Iterable[_Raw], where: dict[str, str]) -> Iterator[_Raw]:
    """The rows whose columns match the patterns; a list or struct is searched as JSON. Rejects stay, for nobody knows what they are."""
    patterns = {column: re.compile(pattern) for column, pattern in where.items()}
    for item in items:
        if isinstance(item, Reject) or all(
            (value := _reach(item[1], column)) is not None
            and pattern.search(as_json(value) if isinstance(value, dict | list) else str(value))
            for column, pattern in patterns.items()
        ):
            yield item


def _sample(items: Iterable[_Raw], limit: int, seed: int) -> Iterator[_Raw]:
    """`limit` of the items, in their order. An item's draw depends on the seed and its number alone; no more than `limit` are held."""
    drawn = heapq.nsmallest(
        limit, enumerate(items), key=lambda item: hashlib.sha256(f"{seed}:{item[0]}".encode()).digest()
    )
    return (item for _, item in sorted(drawn, key=lambda numbered: numbered[0]))


def _under_our_names(raw: dict[str, Any], source: Source) -> Row | str:
    """The row with our column names, or the reason why it cannot be used."""
    row: Row = {}
    for name in (*source.required, *source.optional):
        if (text := _text(raw, source.column(name))) is not None:
            row[name] = text
        if name in source.required and not row.get(name, "").strip():
            return f"empty {name}" if name in row else f"no {name}"
    licence = _text(raw, source.columns["license"]) if "license" in source.columns else None
    row["license"] = licence or source.license or ""
    return row if row["license"].strip() else "no licence"


def _text(raw: dict[str, Any], column: str) -> str | None:
    """The text of a column; None where there is none, or something in its place that is neither text nor a number."""
    value = _reach(raw, column)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    is_text = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return encodable(str(value)) if is_text else None


def _reach(raw: dict[str, Any], column: str) -> Any:
    """The value of a column; dots reach into structs, unless the column's own name has them."""
    value: Any = raw
    for part in [column] if column in raw else column.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _columns_of(raw: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in raw.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict) and prefix.count(".") < 8:
            yield from _columns_of(value, f"{prefix}{name}.")


def _shown(column: str) -> str:
    """A column's name as an error may show it: a CSV without a header has text of a note for names."""
    return column if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", column) else "…"


def _name(source: Source) -> str:
    """What a row says of its source: the repository, or the file without its folder."""
    return Path(source.source).name if is_local(source.source) else source.source


# ---- files -----------------------------------------------------------------------------------------------------------


def _raw_rows(source: Source) -> Iterator[_Raw]:
    if not is_local(source.source):
        yield from _read_hub(source)
        return
    path = Path(source.source)
    reader = {".parquet": _read_parquet, ".csv": _read_csv}.get(path.suffix, _read_jsonl)
    where = ""
    try:
        for item in reader(path):
            where = item.where if isinstance(item, Reject) else item[0]
            yield item
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = "is a damaged gzip file: it breaks off" + (f" after {where}" if where else "")
        raise InputError.of(what, source.source, "Copy or compress it again.") from error
    except pa.ArrowException as error:
        what = "is no Parquet file, or a damaged one" + (f": it breaks off after {where}" if where else "")
        raise InputError.of(what, source.source) from error
    except OSError as error:
        raise InputError.of(f"cannot be read: {error.strerror or 'it is damaged'}", source.source) from error


def _read_jsonl(path: Path) -> Iterator[_Raw]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                raw = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield Reject("not UTF-8", where, line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                yield Reject("not JSON", where, line.decode())
            else:
                yield (where, raw) if isinstance(raw, dict) else Reject("not a JSON object", where, as_json(raw))


def _read_csv(path: Path) -> Iterator[_Raw]:
    csv.field_size_limit(2**31 - 1)  # the default ends at 128 kB, and notes do not
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        while True:
            try:
                raw = next(rows)
            except StopIteration:
                return
            except csv.Error:
                yield Reject("not CSV", f"{path.name}:{rows.line_num}", "")
                continue
            where = f"{path.name}:{rows.line_num}"
            if None in raw:
                yield Reject("more cells than columns", where, as_json(raw))
            elif any(re.search("[\udc80-\udcff]", cell) for cell in raw.values() if cell):
                yield Reject("not UTF-8", where, as_json(raw))
            else:
                yield where, raw


def _read_parquet(path: Path) -> Iterator[_Raw]:
    number = 0
    if path.stat().st_size == 0:
        return
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for i in range(batch.num_rows):
                number += 1
                where = f"{path.name}:{number}"
                try:
                    yield where, batch.slice(i, 1).to_pylist()[0]
                except UnicodeDecodeError:
                    yield Reject("not UTF-8", where, "")


# ---- the Hub ---------------------------------------------------------------------------------------------------------


def _read_hub(source: Source) -> Iterator[_Raw]:
    """The rows of a Hub dataset at one commit, streamed; shuffled with the source's seed when only some are wanted."""
    import httpx2
    from datasets import load_dataset

    commit = commit_of(source.source, "dataset", source.revision)
    try:
        rows = load_dataset(source.source, source.config, split=source.split, revision=commit, streaming=True)
    except (OSError, ValueError, KeyError, httpx2.HTTPError) as error:
        what = f"cannot be loaded from the Hub: {str(error).strip().partition(chr(10))[0] or type(error).__name__}"
        raise InputError.of(what, source.source, "Check `config` and `split`.") from error
    if source.limit:
        rows = rows.shuffle(seed=source.seed, buffer_size=_SHUFFLED)
    number = 0
    try:
        for number, raw in enumerate(rows, 1):
            yield f"{source.source}:{number}", raw
    except (OSError, httpx2.HTTPError) as error:
        what = f"the Hub broke off after row {number:,}: {type(error).__name__}"
        raise RunError.of(what, source.source, "Run the same command again.") from error
