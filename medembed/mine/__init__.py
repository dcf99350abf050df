"""Pairs → triplets: for each query, passages that look right and are not.

A dense retriever ranks the corpus; candidates too close to the positive's score are taken for unlabelled positives and left out
(positive-aware mining: Moreira et al. 2024, «NV-Retriever»). Scores of positive and negatives stay in the rows.
"""

from functools import partial
from typing import Any

import pyarrow as pa

from medembed import models
from medembed.errors import InputError, RunError
from medembed.mine.negatives import Candidates, choose
from medembed.recipe import DatasetRecipe, Mine, Model
from medembed.retrieval.embeddings import encode
from medembed.retrieval.search import search
from medembed.rows import passage_input, triplets_schema
from medembed.run import Record, Run


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    said = _options(recipe).model_dump(mode="json")
    retriever = models.resolve(_retriever(recipe))
    said["retriever"] = [retriever.name]  # its revision says which one; a folder may move
    return said, {"curate": run.finished("curate").outputs, "retriever": retriever.revision}


def work(recipe: DatasetRecipe, run: Run) -> Record:
    options = _options(recipe)
    splits = {split: run.read("curate", f"pairs-{split}").to_pylist() for split in _splits(run)}
    corpus = run.read("curate", "corpus").to_pylist()
    _enough_passages(len(corpus), options)
    retriever, resolved = models.load(_retriever(recipe)), models.resolve(_retriever(recipe))
    encoded = partial(
        encode, retriever, resolved.revision, cache=run.path("mine", "embeddings"), batch_size=options.batch_size
    )
    texts = [passage_input(passage["title"], passage["text"]) for passage in corpus]
    passages = encoded(texts, "document")  # (P, D)

    record = Record("mine", counts={"pairs in": 0, "triplets": 0})
    rejects = []
    for split, pairs in splits.items():
        queries = encoded([pair["query"] for pair in pairs], "query")  # (Q, D)
        found = search(queries, passages, options.ranks[1])  # (Q, K) row numbers and scores
        candidates = Candidates(corpus, texts, passages, queries, *found)
        triplets, rejected = choose(pairs, candidates, options)
        run.write(
            "mine", f"triplets-{split}", pa.Table.from_pylist(triplets, schema=triplets_schema(options.negatives))
        )
        rejects += rejected
        record.counts["pairs in"] += len(pairs)
        record.counts["triplets"] += len(triplets)
        record.counts[split] = len(triplets)
    if not record.counts["train"]:
        mend = "Widen `mine.ranks`, lower `mine.negatives`, or say `mine.fewer: fill`."
        raise RunError.of("no row found enough negatives", "mine", mend)
    record.rejects = run.write_rejects("mine", rejects)
    record.facts = {"retriever": {"name": resolved.name, "revision": resolved.revision}, "negatives": options.negatives}
    return record


def _options(recipe: DatasetRecipe) -> Mine:
    if recipe.mine is None:
        raise InputError.of("the recipe has no section `mine`", recipe.name)
    return recipe.mine


def _retriever(recipe: DatasetRecipe) -> Model:
    if (retriever := _options(recipe).dense) is None:
        raise InputError.of("names no embedding model", "mine.retriever")
    return retriever


def _splits(run: Run) -> list[str]:
    return [split for split in ("train", "dev") if f"pairs-{split}.parquet" in run.finished("curate").outputs]


def _enough_passages(passages: int, options: Mine) -> None:
    if passages <= options.negatives:
        what = f"{passages} passages cannot give {options.negatives} negatives a row"
        raise InputError.of(what, "mine.negatives", "Lower it, or add notes.")
