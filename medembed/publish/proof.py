"""What was delivered is loaded as its users load it, and compared with what was made: a release that cannot be used never comes to be."""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medembed import models
from medembed.errors import RunError
from medembed.hub import told
from medembed.publish.push import Delivered
from medembed.recipe import Model, ModelRecipe
from medembed.rows import passage_input

SENTENCES = (
    "chest pain that spreads to the left arm",
    "How is iron deficiency anaemia treated in pregnancy?",
    "Metformin is the first-line drug for type 2 diabetes.",
    "no fever, no cough, lungs clear on both sides",
)
TOLERANCE = 1e-5
AGAIN = "What is published is as it was. Run the same command again."


def prove_model(recipe: ModelRecipe, trained: Path, delivered: Delivered) -> dict[str, Any]:
    """Load the delivered model; it must embed as the trained one does. Then ask it the recipe's query.

    Raises:
        RunError: it cannot be loaded, or embeds otherwise.
    """
    ours = models.load(Model(model=str(trained.absolute())), device="cpu")
    with _loading(delivered):
        theirs = type(ours)(
            delivered.name,
            revision=delivered.commit,
            cache_folder=delivered.cache and str(delivered.cache),
            device="cpu",
        )
    texts = list(SENTENCES)
    difference = max(
        _difference(theirs.encode_query(texts), ours.encode_query(texts)),
        _difference(theirs.encode_document(texts), ours.encode_document(texts)),
    )
    if not difference <= TOLERANCE:
        what = f"the published model embeds otherwise than the trained one: they differ by {difference:.2g}"
        raise RunError.of(what, delivered.name, AGAIN)
    proof = {"loaded_back": {"sentences": len(texts), "equal_within": TOLERANCE}}
    return proof | (_ask(theirs, recipe) if recipe.publish.ask else {})


def _difference(theirs: Any, ours: Any) -> float:
    """The largest one between two models' embeddings of the same texts, each (D,), or (tokens, D) in late interaction."""
    pairs = list(zip(theirs, ours, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    return max(float(abs(one - other).max()) for one, other in pairs)


def _ask(model: Any, recipe: ModelRecipe) -> dict[str, Any]:
    """The top three passages for the recipe's query, of the first local evaluation task; nothing when there is none."""
    corpora = [path for task in recipe.evaluate.tasks if (path := Path(task) / "corpus.jsonl").is_file()]
    if not corpora:
        return {}
    with corpora[0].open(encoding="utf-8") as file:
        passages = [json.loads(line) for line in file if line.strip()]
    texts = [passage_input(passage.get("title"), passage["text"]) for passage in passages]
    embedded = model.encode_document(texts, batch_size=recipe.evaluate.batch_size, show_progress_bar=True)
    scores = model.similarity(model.encode_query([recipe.publish.ask]), embedded)[0]  # (P,)
    found = [
        {
            "score": round(float(scores[i]), 4),
            "title": passages[i].get("title") or "",
            "text": passages[i]["text"][:120],
        }
        for i in scores.argsort(descending=True)[:3].tolist()
    ]
    return {"asked": {"query": recipe.publish.ask, "passages": found}}


def prove_dataset(rows: Mapping[str, Mapping[str, int]], delivered: Delivered, scratch: Path) -> dict[str, Any]:
    """Load every config of the delivered dataset as its users do; each must have the `rows` by split that were written.

    Raises:
        RunError: one cannot be loaded, or has other rows.
    """
    for config, written in rows.items():
        if (found := count_rows(config, delivered, scratch)) != written:
            what = f"the published dataset has other {config} than were written: {found}, not {written}"
            raise RunError.of(what, delivered.name, AGAIN)
    return {"loaded_back": {"rows": dict(rows)}}


def count_rows(config: str, delivered: Delivered, scratch: Path) -> dict[str, int]:
    """Load a config of the delivered dataset by `load_dataset`; its rows by split.

    Raises:
        RunError: it cannot be loaded.
    """
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(dir=scratch, prefix=".load-") as cache, _loading(delivered):
        loaded = load_dataset(delivered.name, config, revision=delivered.commit, cache_dir=cache)
        return {split: table.num_rows for split, table in loaded.items()}


@contextmanager
def _loading(delivered: Delivered) -> Iterator[None]:
    """Whatever a library says when it cannot load what was just published, with the place and what to do."""
    try:
        with told(delivered.name):
            yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        what = f"what was published could not be loaded back: {type(error).__name__}"
        raise RunError.of(what, delivered.name, AGAIN) from error
