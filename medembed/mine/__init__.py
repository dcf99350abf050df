"""Pairs → triplets: for each query, passages that look right and are not.

Retrievers rank the corpus (`ranking`), rules leave out what may be an answer (`negatives`, `pools`); where the recipe says so, a
cross-encoder grades what is left (`teacher`), an LLM is asked about what looks suspicious (`judge`), and rows that have lost too many are
filled up at random (`filling`). All scores stay in the rows.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

from medembed import models, tables
from medembed.errors import InputError, RunError
from medembed.mine import report, suspects, teacher
from medembed.mine.corpus import Corpus, Pairs, read_corpus, read_pairs
from medembed.mine.filling import fill
from medembed.mine.pools import gather
from medembed.mine.ranking import Embedded, rank
from medembed.mine.suspects import Verdicts
from medembed.mine.triplets import choose, rows_of
from medembed.recipe import DatasetRecipe, Mine
from medembed.retrieval.approximate import faiss
from medembed.retrieval.embeddings import encode
from medembed.rows import Reject, triplets_schema
from medembed.run import Record, Run, by_frequency, sha256

SPLITS = ("train", "dev")
SPARES = 2  # pools are so many times as large as a row needs, where a teacher or a judge may drop some
PICTURE = "mining.png"


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    options = _options(recipe)
    said = options.model_dump(mode="json")
    named = {"retriever": options.dense, "teacher": options.teacher and options.teacher.model}
    resolved = {role: models.resolve(model) for role, model in named.items() if model}
    # Its revision says which model; a folder may move.
    said["retriever"] = [each if each == "bm25" else resolved["retriever"].name for each in options.retriever]
    read: dict[str, Any] = {"curate": run.finished("curate").outputs}
    read |= {role: each.revision for role, each in resolved.items()}
    if options.teacher:
        said["teacher"]["model"] = resolved["teacher"].name
    if options.judge:
        from medembed.mine.judge import Prompt

        read["judge"] = Prompt(options.judge, seed=0).version
    return said, read


def work(recipe: DatasetRecipe, run: Run) -> Record:
    options = _options(recipe)
    corpus, pairs, rejects = _read(options, run)
    size = options.negatives * (SPARES if options.teacher or options.judge else 1)
    ranking = rank(pairs, corpus, _embedded(pairs, corpus, options, run), options)
    pools = gather(ranking, pairs, corpus, options, size)
    left = pools.ids >= 0  # (Q, M)
    graded = verdicts = None
    if options.teacher:
        graded = teacher.graded(pairs, corpus, pools, options.teacher, run.path("embeddings"))
        left &= ~teacher.too_close(graded.negatives, graded.positives, options.teacher.relative_margin)
    if options.judge and recipe.generate:
        journal = run.folder / "judge.jsonl"
        verdicts = suspects.judged(pairs, corpus, pools, left, recipe.generate, options.judge, journal)
        left &= ~suspects.dropped(pairs, corpus, pools, verdicts)
        if options.judge.answers == "relabel":
            pairs, pools, graded, left = suspects.relabelled(pairs, corpus, pools, graded, left, verdicts, options)
    if options.fewer == "fill":
        fill(pairs, corpus, ranking, pools, left, graded, verdicts, options, run.path("embeddings"))
    chosen = choose(left, options)

    record = _write(rows_of(pairs, corpus, pools, chosen, graded, options), pairs.split_names, rejects, options, run)
    record.counts |= report.counts(pools, chosen, options)
    record.facts = _names(options, verdicts) | report.facts(pools, chosen, graded)
    if report.draw(run.path("mine", PICTURE), pools, chosen, graded):
        record.outputs = {PICTURE: sha256(run.path("mine", PICTURE))}
    return record


def _options(recipe: DatasetRecipe) -> Mine:
    if recipe.mine is None:
        raise InputError.of("the recipe has no section `mine`", recipe.name)
    return recipe.mine


def _read(options: Mine, run: Run) -> tuple[Corpus, Pairs, list[Reject]]:
    """The corpus; the pairs of all splits; what cannot be used.

    Raises:
        InputError: the corpus is too small, the teacher is no cross-encoder of one output, or FAISS is needed and not installed.
    """
    outputs = run.finished("curate").outputs
    tables_of_pairs = {
        split: run.path("curate", name) for split in SPLITS if (name := f"pairs-{split}.parquet") in outputs
    }
    corpus = read_corpus(run.path("curate", "corpus.parquet"))
    texts = int(corpus.text_numbers.max(initial=-1)) + 1
    if texts <= (least := 1 if options.fewer == "keep" else options.negatives):
        what = f"{texts} passages of different texts cannot give {least} negatives a row"
        mend = "Add passages: more notes, or a `corpus`." + (" Or ask for fewer negatives." if least > 1 else "")
        raise InputError.of(what, "mine.negatives", mend)
    # What is wrong with these is told before long work.
    if options.teacher:
        models.load_reranker(options.teacher.model)
    if options.dense and len(corpus) > options.exact_up_to:
        faiss()
    return corpus, *read_pairs(tables_of_pairs, corpus)


def _embedded(pairs: Pairs, corpus: Corpus, options: Mine, run: Run) -> Embedded | None:
    if options.dense is None:
        return None
    encoded = partial(
        encode,
        models.load(options.dense, method="dense"),
        models.resolve(options.dense).revision,
        cache=run.path("embeddings"),
        batch_size=options.batch_size,
    )
    return Embedded(encoded(pairs.queries.column, "query"), encoded(corpus.texts.column, "document"))


def _write(
    rows: Iterable[tuple[str, dict[str, Any]] | Reject],
    splits: list[str],
    rejects: list[Reject],
    options: Mine,
    run: Run,
) -> Record:
    """Write triplets and rejects as they come; a record with their counts.

    Raises:
        RunError: none is left to train on.
    """
    written = dict.fromkeys(splits, 0)
    schema = triplets_schema(options.negatives)
    with ExitStack() as stack:
        add = {
            split: stack.enter_context(tables.writing(run.path("mine", f"triplets-{split}.parquet"), schema))
            for split in splits
        }
        reject, counts = stack.enter_context(tables.rejecting(run.path("mine", "rejects.parquet")))
        for each in chain(rejects, rows):
            if isinstance(each, Reject):
                reject(each)
            else:
                split, triplet = each
                add[split](triplet)
                written[split] += 1
    if not written["train"]:
        mend = "Widen `mine.ranks`, lower `mine.negatives`, or loosen the margins: raise relative ones, lower the absolute one."
        if options.fewer != "fill":
            mend += " Or say `mine.fewer: fill`."
        raise RunError.of("no row of the split `train` found enough negatives", str(run.path("mine")), mend)
    pairs_in = run.finished("curate").counts
    counted = {"pairs in": sum(pairs_in.get(split, 0) for split in splits), "triplets": sum(written.values())}
    return Record("mine", counts=counted | written, rejects=by_frequency(counts))


def _names(options: Mine, verdicts: Verdicts | None) -> dict[str, Any]:
    """Who ranked, graded and judged."""
    retriever = models.resolve(options.dense) if options.dense else None
    names = [retriever.name if retriever and each != "bm25" else "BM25" for each in options.retriever]
    facts: dict[str, Any] = {
        "retriever": {
            "name": " and ".join(names),
            "revision": retriever.revision if retriever else f"bm25s {version('bm25s')}",
        },
        "negatives": options.negatives,
    }
    if options.teacher:
        found = models.resolve(options.teacher.model)
        facts["teacher"] = {"name": found.name, "revision": found.revision, "scores": "logits"}
    if verdicts:
        facts["judge"] = verdicts.facts
    return facts
