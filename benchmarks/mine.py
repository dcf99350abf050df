"""Mining and search, ours against our peers': the same model, corpus and k, in one run, each in a process of its own.

    python benchmarks/mine.py                                    # all of it, as in README.md
    python benchmarks/mine.py --passages 20000 --queries 1000    # smaller
    python benchmarks/mine.py --parts search --peers             # one part; no peer that needs an environment

Mining: `medembed mine`, `sentence_transformers.util.mine_hard_negatives` and FlagEmbedding's `hn_mine`, whose environment is made
beside the work on first use. Search: ours, exact and by index, and FAISS's flat index, over random and clustered vectors.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RANKS, NEGATIVES, BATCH_SIZE = 50, 4, 32
DIMENSIONS, CLUSTERS = 384, 1000


@dataclass
class Told:
    """What one contestant needed."""

    wall: float  # seconds, from a loaded interpreter to the written result
    encode: float  # of these in the model
    cpu: float  # seconds of all threads, start of the interpreter included: what a busy machine does not change much
    peak: float  # MiB, resident


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.child:
        told = CHILDREN[options.child](options)
        (options.work / "told.json").write_text(json.dumps(told))
    else:
        for part in options.parts:
            PARTS[part](options)


# ---- mining ----------------------------------------------------------------------------------------------------------


def mining(options: argparse.Namespace) -> None:
    """Hard negatives for Q pairs out of P passages: encode, search, choose, write."""
    _child("prepare", options)
    rows = {"medembed mine": _child("ours", options), "mine_hard_negatives": _child("sentence-transformers", options)}
    if options.peers:
        rows["hn_mine"] = _flagembedding(options)
    print(f"\n{options.passages:,} passages, {options.queries:,} queries, {options.model or 'a tiny random BERT'}\n")
    print("| | wall s | encoder s | the rest s | of the wall | CPU s | peak MiB |\n|---|---|---|---|---|---|---|")
    for name, told in rows.items():
        rest = told.wall - told.encode
        seconds = f"{told.wall:.1f} | {told.encode:.1f} | {rest:.1f} | {rest / told.wall:.1%} | {told.cpu:.1f}"
        print(f"| {name} | {seconds} | {told.peak:.0f} |", flush=True)


def prepare(options: argparse.Namespace) -> None:
    """The curated pairs and corpus of a run, and the same as FlagEmbedding reads them; a tiny model where none is named."""
    import pyarrow as pa

    from medembed.rows import CORPUS, PAIRS, content_id
    from medembed.run import Record

    if options.model is None:
        sys.path.insert(0, str(HERE.parent))
        from tests.fixtures.models import make_tiny_model

        if not _model(options).exists():
            make_tiny_model(options.work / "tiny")
    texts = list(_texts(options))
    ids = [content_id(text) for text in texts]
    queries = [" ".join(text.split()[3:9]) for text in texts[: options.queries]]
    rest = {"source": "benchmark", "license": "cc0-1.0"}
    corpus = [{"passage_id": i, "note_id": i, "text": text, **rest} for i, text in zip(ids, texts, strict=True)]
    pairs = [
        {"query": query, "positive": text, "passage_id": i, "note_id": i, **rest}
        for query, text, i in zip(queries, texts, ids, strict=False)
    ]
    run = _run(options)

    def write() -> Record:
        run.write("curate", "corpus", pa.Table.from_pylist(corpus, schema=CORPUS))
        run.write("curate", "pairs-train", pa.Table.from_pylist(pairs, schema=PAIRS))
        return Record("curate")

    with run.locked():
        run.perform("curate", "benchmark", write)
    _write_lines(options.work / "pool.jsonl", ({"text": text} for text in texts))
    _write_lines(options.work / "pairs.jsonl", ({"query": pair["query"], "pos": [pair["positive"]]} for pair in pairs))


def ours(options: argparse.Namespace) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    from medembed import stages

    spent = _timed(SentenceTransformer, "encode")
    run = _run(options)
    clock = time.perf_counter()
    stages.perform("mine", run.recipe, run)
    return {"wall": time.perf_counter() - clock, "encode": sum(spent)}


def sentence_transformers(options: argparse.Namespace) -> dict[str, float]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    spent = _timed(SentenceTransformer, "encode")
    clock = time.perf_counter()
    pairs = [json.loads(line) for line in (options.work / "pairs.jsonl").open()]
    pool = [json.loads(line)["text"] for line in (options.work / "pool.jsonl").open()]
    dataset = Dataset.from_dict(
        {"query": [each["query"] for each in pairs], "answer": [each["pos"][0] for each in pairs]}
    )
    mined = mine_hard_negatives(
        dataset,
        SentenceTransformer(str(_model(options)), device="cpu"),
        corpus=pool,
        range_max=RANKS,
        num_negatives=NEGATIVES,
        output_format="n-tuple",
        batch_size=BATCH_SIZE,
        verbose=False,
    )
    mined.to_parquet(options.work / "mined.parquet")
    return {"wall": time.perf_counter() - clock, "encode": sum(spent)}


def _flagembedding(options: argparse.Namespace) -> Told:
    python = options.environment / "bin" / "python"
    if not python.exists():
        venv.create(options.environment, with_pip=True)
        wanted = HERE / "peers" / "flagembedding.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", wanted], check=True)
    length = "64" if options.model is None else "256"
    script = [python, HERE / "peers" / "flagembedding.py", _model(options), options.work, str(BATCH_SIZE), length]
    return _measured(script, options)


def _texts(options: argparse.Namespace) -> Iterator[str]:
    """Distinct passages: the positives of `--pairs`, or words at random, 10 to 40 of them."""
    if options.pairs:
        import gzip

        with gzip.open(options.pairs, "rt", encoding="utf-8") as file:
            texts = dict.fromkeys(json.loads(line)["positive"] for line in file)
        yield from list(texts)[: options.passages]
        return
    from tests.fixtures.models import WORDS

    draw = random.Random(0)
    for number in range(options.passages):
        yield " ".join(draw.choices(WORDS, k=draw.randint(10, 40))) + f" {number}"


def _run(options: argparse.Namespace) -> Any:
    from medembed.recipe import DatasetRecipe
    from medembed.run import Run

    mine = {"retriever": str(_model(options)), "negatives": NEGATIVES, "ranks": [1, RANKS], "batch_size": BATCH_SIZE}
    recipe = DatasetRecipe.model_validate(
        {
            "kind": "dataset",
            "name": "benchmark",
            "pairs": [{"source": "org/unused", "license": "cc0-1.0"}],
            "mine": mine | {"near_duplicate": None, "relative_margin": None},  # hn_mine has neither
            "publish": {"folder": "unused"},
        }
    )
    return Run(recipe, options.work / "run")


def _model(options: argparse.Namespace) -> Path:
    return options.model or options.work / "tiny" / "model"


# ---- search ----------------------------------------------------------------------------------------------------------


def searching(options: argparse.Namespace) -> None:
    """The 50 nearest of P vectors of 384 dimensions for Q queries."""
    import numpy as np

    for kind in ("random", "clustered"):
        _child(f"vectors-{kind}", options)
        flat, exact = _child("faiss-flat", options), _child("exact", options)
        expected, found = (np.load(options.work / f"{name}.npy") for name in ("faiss-flat", "exact"))
        print(f"\n{kind}: {options.vectors:,} passages × {options.searches:,} queries × {DIMENSIONS}\n")
        print(
            "| | search s | of FAISS flat | index built in s | recall@50 | CPU s | peak MiB |\n|---|---|---|---|---|---|---|"
        )
        _line("FAISS flat", flat, flat, 1.0)
        _line("exact", exact, flat, _recall(expected, found))
        if kind == "clustered":
            index = _child("index", options)
            _line("index", index, flat, _recall(expected, np.load(options.work / "index.npy")))


def vectors(kind: str) -> Callable[[argparse.Namespace], None]:
    def write(options: argparse.Namespace) -> None:
        """Random directions; or around 1,000 centres, with as much noise as centre (cosine 0.5 within a cluster)."""
        import numpy as np

        from medembed.retrieval.embeddings import on_grid

        draw = np.random.default_rng(0)
        centres = draw.standard_normal((CLUSTERS, DIMENSIONS), np.float32)
        for name, count in (("passages", options.vectors), ("queries", options.searches)):
            file = np.lib.format.open_memmap(options.work / f"{name}.npy", "w+", np.float16, (count, DIMENSIONS))
            for start in range(0, count, 50_000):
                rows = file[start : start + 50_000]
                made = draw.standard_normal(rows.shape, np.float32)
                if kind == "clustered":
                    made += centres[draw.integers(0, CLUSTERS, len(rows))]
                rows[:] = on_grid(made)

    return write


def faiss_flat(options: argparse.Namespace) -> dict[str, float]:
    import faiss
    import numpy as np

    passages, queries = _vectors(options)
    index = faiss.IndexFlatIP(DIMENSIONS)
    clock = time.perf_counter()
    for start in range(0, len(passages), 50_000):
        index.add(passages[start : start + 50_000].astype(np.float32))
    built = time.perf_counter() - clock
    clock = time.perf_counter()
    _, ids = index.search(queries.astype(np.float32), RANKS)
    return _searched("faiss-flat", ids, clock, built, options)


def exact(options: argparse.Namespace) -> dict[str, float]:
    import torch  # noqa: F401 (in a stage, the encoder has loaded it before)

    from medembed.retrieval.search import search

    passages, queries = _vectors(options)
    clock = time.perf_counter()
    ids, _ = search(queries, passages, RANKS)
    return _searched("exact", ids, clock, 0.0, options)


def index(options: argparse.Namespace) -> dict[str, float]:
    from medembed.retrieval.approximate import Index

    passages, queries = _vectors(options)
    clock = time.perf_counter()
    made = Index(passages)
    built = time.perf_counter() - clock
    clock = time.perf_counter()
    ids, _ = made.search(queries, RANKS)
    return _searched("index", ids, clock, built, options)


def _vectors(options: argparse.Namespace) -> tuple[Any, Any]:
    import numpy as np

    return tuple(np.load(options.work / f"{name}.npy", mmap_mode="r") for name in ("passages", "queries"))


def _searched(name: str, ids: Any, clock: float, built: float, options: argparse.Namespace) -> dict[str, float]:
    import numpy as np

    seconds = time.perf_counter() - clock
    np.save(options.work / f"{name}.npy", ids)
    return {"wall": seconds, "encode": built}


def _recall(expected: Any, found: Any) -> float:
    import numpy as np

    return float(np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)]))


def _line(name: str, told: Told, flat: Told, recall: float) -> None:
    figures = f"{told.wall:.1f} | {told.wall / flat.wall:.2f} | {told.encode:.1f} | {recall:.4f} | {told.cpu:.1f}"
    print(f"| {name} | {figures} | {told.peak:.0f} |", flush=True)


# ---- processes -------------------------------------------------------------------------------------------------------


def _child(name: str, options: argparse.Namespace) -> Told:
    sizes = [f"--{key}={getattr(options, key)}" for key in ("passages", "queries", "vectors", "searches", "work")]
    named = [f"--{key}={value}" for key in ("model", "pairs") if (value := getattr(options, key))]
    return _measured([sys.executable, __file__, "--child", name, *sizes, *named], options)


def _measured(command: list[Any], options: argparse.Namespace) -> Told:
    """Run `command` to its end: what it told, and the most memory that it held."""
    told = options.work / "told.json"
    told.unlink(missing_ok=True)
    with (options.work / "log.txt").open("a") as log:
        paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": paths}
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[2:4]} failed: see {options.work / 'log.txt'}")
    said = json.loads(told.read_text()) if told.exists() else None
    used = {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}
    return Told(**(said or {"wall": 0.0, "encode": 0.0}), **used)


def _timed(owner: Any, name: str) -> list[float]:
    """A list that grows by the seconds of each call of a method."""
    method, spent = getattr(owner, name), []

    def timed(*args: Any, **settings: Any) -> Any:
        clock = time.perf_counter()
        try:
            return method(*args, **settings)
        finally:
            spent.append(time.perf_counter() - clock)

    setattr(owner, name, timed)
    return spent


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


PARTS = {"mining": mining, "search": searching}
CHILDREN = {
    "prepare": prepare,
    "ours": ours,
    "sentence-transformers": sentence_transformers,
    "vectors-random": vectors("random"),
    "vectors-clustered": vectors("clustered"),
    "faiss-flat": faiss_flat,
    "exact": exact,
    "index": index,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--passages", type=int, default=200_000, help="to mine from")
    parser.add_argument("--queries", type=int, default=10_000, help="to mine for")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="to search in")
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--model", type=Path, help="a local embedding model; else a tiny random BERT")
    parser.add_argument(
        "--pairs", type=Path, help="JSONL.gz with a column `positive`, to take passages from; else words at random"
    )
    parser.add_argument("--peers", nargs="*", choices=["flagembedding"], default=["flagembedding"])
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-mine"))
    parser.add_argument("--environment", type=Path, help="FlagEmbedding's; else WORK/flagembedding")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.environment = (options.environment or options.work / "flagembedding").absolute()
    return options


if __name__ == "__main__":
    main()
