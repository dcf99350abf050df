"""Finished runs, small and real: what the stages before `publish` leave behind, and the recipe file that belongs to it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from medembed.recipe import Recipe
from medembed.recipe_file import load
from medembed.rows import CORPUS, PAIRS, Reject, triplets_schema
from medembed.run import Record, Run, sha256

SECRET_TEXT = "Zyxomine was started"  # stands in every note: must never reach a card, a manifest, an error
GENERATOR = "meta-llama/Llama-3.3-70B-Instruct"


PHI: dict[str, Any] = {
    "policy": "redact",
    "engine": "presidio-analyzer 2.2.366",
    "names": "patterns only",
    "found": {"name": 3, "date": 11},
    "remaining": {},
    "direct": ["name", "phone"],
}
CURATED: dict[str, Any] = {
    "unusable": {"not JSON": 1},
    "filters": [
        {
            "filter": "duplicates",
            "settings": {"near": 0.85, "normalised": True, "of": ["pairs"]},
            "passages removed": 0,
            "pairs removed": 2,
            "reasons": {"near-duplicate": 2},
        },
        {
            "filter": "decontaminate",
            "settings": {"tasks": ["NFCorpus"], "ngram": 8},
            "passages removed": 1,
            "pairs removed": 1,
            "reasons": {"decontaminate: NFCorpus": 2},
        },
        {
            "filter": "phi",
            "settings": {"policy": "redact"},
            "passages removed": 0,
            "pairs removed": 0,
            "reasons": {},
        },
    ],
    "phi": PHI,
    "decontaminate": {
        "tasks": {
            "NFCorpus": {
                "revision": "ec0fa4fe99da2ff19ca1214b7966684033a58814",
                "queries": 323,
                "passages": 3633,
                "removed": {
                    "queries": {"query match": 1, "n-gram": 0, "near": 0},
                    "passages": {"passage match": 0, "n-gram": 1, "near": 0},
                },
            }
        },
        "ngram": 8,
        "near": None,
    },
}


def dataset_run(
    folder: Path,
    *,
    publish: dict[str, Any],
    license: str = "cc0-1.0",
    name: str = "tiny-triplets",
    curated: dict[str, Any] = CURATED,
) -> tuple[Recipe, Run]:
    """Six pairs with two negatives each, one of them in `dev`; two rows were rejected."""
    (folder / "notes.jsonl").parent.mkdir(parents=True, exist_ok=True)
    (folder / "notes.jsonl").write_text('{"id": "1", "text": "a note"}\n')
    (folder / "journal.jsonl").write_text("")
    said = {
        "kind": "dataset",
        "name": name,
        "notes": [{"source": str(folder / "notes.jsonl"), "license": license}],
        "generate": {"recorded": str(folder / "journal.jsonl")},
        "split": {"dev": 0.2},
        "mine": {"retriever": "BAAI/bge-small-en-v1.5", "negatives": 2},
        "publish": publish,
    }
    recipe = _recipe(folder, said)
    run = Run(recipe, folder / "runs" / name)
    corpus = [
        {
            "passage_id": f"p{i}",
            "note_id": f"n{i}",
            "text": f"{SECRET_TEXT} on day {i}.",
            "title": "Plan",
            "source": "notes.jsonl",
            "license": license,
        }
        for i in range(6)
    ]
    pairs = [
        {
            "query": f"what was started on day {i}",
            "positive": row["text"],
            "query_type": "question",
            "evidence": row["text"],
            "generator": GENERATOR,
            "prompt_version": "clinical-queries-v1",
        }
        | {key: row[key] for key in ("passage_id", "note_id", "source", "license")}
        for i, row in enumerate(corpus)
    ]
    triplets = [
        {key: pair[key] for key in ("query", "positive", "passage_id", "note_id")}
        | {
            "negative_1": "chest pain",
            "negative_2": "knee pain",
            "positive_score": 0.9,
            "negative_scores": [0.5, 0.4],
            "negative_ids": ["p8", "p9"],
        }
        for pair in pairs
    ]
    reject = Reject("evidence not in note", "note n9", "{}")
    with run.locked():
        _stage(
            run,
            "generate",
            {"corpus": (corpus, CORPUS), "pairs": (pairs, PAIRS)},
            [reject],
            {"notes": 7, "pairs": 6},
            {"generator": GENERATOR, "tokens": {"in": 9100, "out": 2300}},
        )
        _stage(
            run,
            "curate",
            {"corpus": (corpus, CORPUS), "pairs-train": (pairs[:5], PAIRS), "pairs-dev": (pairs[5:], PAIRS)},
            [],
            {"pairs in": 6, "pairs": 6},
            curated,
        )
        schema = triplets_schema(2)
        tables = {"triplets-train": (triplets[:5], schema), "triplets-dev": (triplets[5:], schema)}
        mined = {
            "retriever": {"name": "BAAI/bge-small-en-v1.5", "revision": "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a"},
            "positive_scores": [round(0.6 + n / 40, 4) for n in range(11)],
            "negative_scores": [round(0.3 + n / 40, 4) for n in range(11)],
            "ranks": list(range(1, 12)),
            "candidates": {"in all": 60, "too close to the positive's score": 6},
            "suspected_false_negatives": 0.1053,
        }
        _stage(
            run,
            "mine",
            tables,
            [reject._replace(reason="too few negatives")],
            {"pairs in": 6, "triplets": 6},
            mined,
        )
    return recipe, run


def model_run(
    folder: Path,
    model: Path,
    *,
    publish: dict[str, Any],
    upstream: dict[str, Any] | None = None,
    name: str = "tiny-embed",
    verdict: str = "WIN",
    drawn: bool = False,
    on_hub: bool = False,
) -> tuple[Recipe, Run]:
    """A «trained» model, results on one local task, and what a trainer leaves beside the model."""
    from medembed.models import weights_hash

    task = folder / "tiny-task"
    task.mkdir(parents=True, exist_ok=True)
    passages = [
        {"_id": str(i), "title": f"Case {i}", "text": text}
        for i, text in enumerate(("acute chest pain", "knee pain", "fever and cough", "stroke history"))
    ]
    (task / "corpus.jsonl").write_text("".join(json.dumps(passage) + "\n" for passage in passages))
    said = {
        "kind": "model",
        "name": name,
        "base": {
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "revision": "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            "max_length": 64,
        },
        "data": {"dataset": "medembed/tiny-triplets", "revision": "v1"},
        "evaluate": {"tasks": [str(task)]},
        "publish": publish,
    }
    recipe = _recipe(folder, said)
    run = Run(recipe, folder / "runs" / name)
    base = {"name": said["base"]["model"], "revision": said["base"]["revision"]}
    score = {"base": 0.412, "tuned": 0.463, "difference": 0.051, "low": 0.021, "high": 0.08}
    scores = dict.fromkeys(("ndcg_at_10", "mrr_at_10", "recall_at_10"), score)
    with run.locked():
        shutil.copytree(model, run.path("train", "model"))
        (run.path("train", "model") / "README.md").write_text(f"# Samples\n{SECRET_TEXT}\n")
        (run.path("train", "model") / "checkpoint-2").mkdir()
        (run.path("train", "model") / "checkpoint-2" / "README.md").write_text(f"{SECRET_TEXT}\n")
        dataset = {"name": "medembed/tiny-triplets", "revision": "0" * 40, "provenance": upstream}
        facts = {
            "base": base,
            "dataset": dataset,
            "pairs": 6,
            "steps": 4,
            "loss": {"first": 1.31, "last": 0.42},
            "checks": {"tasks": {"tiny-task": {"queries": 0, "passages": 0}}},
            "saved": str(run.path("train", "model")),
        }
        _stage(run, "train", {}, None, {"triplets": 6}, facts)
        revision = weights_hash(run.path("train", "model"))[:40]
        result = run.path("evaluate", f"results/medembed__{name}/{revision}/tiny-task.json")
        result.parent.mkdir(parents=True)
        result.write_text(json.dumps({"task_name": "tiny-task", "scores": {"test": [{"ndcg_at_10": 0.463}]}}))
        facts = {
            "base": base,
            "tuned": {"name": name, "revision": revision},
            "tasks": {"tiny-task": {**scores, "queries": 12, "passages": 4}},
            "average": score,
            "verdict": verdict,
        }
        if on_hub:
            listed = {"dataset": "mteb/nfcorpus", "revision": "0" * 40, "task_id": "NFCorpus"}
            facts["tasks"]["NFCorpus"] = {**scores, "queries": 12, "passages": 4, "benchmark": listed}
        pictures = ("compressed.png", "compressed.svg") if drawn else ()
        for name in pictures:
            run.path("evaluate", name).write_bytes(b"a picture")
        outputs = {name: sha256(run.path("evaluate", name)) for name in pictures}
        _stage(run, "evaluate", {}, None, {"queries": 12, "passages": 4}, facts, outputs)
    return recipe, run


def _recipe(folder: Path, said: dict[str, Any]) -> Recipe:
    path = folder / f"{said['name']}.yaml"
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return load(path)


def _stage(
    run: Run,
    stage: str,
    tables: dict[str, Any],
    rejects: list[Reject] | None,
    counts: dict[str, int],
    facts: dict[str, Any],
    outputs: dict[str, str] | None = None,
) -> None:
    def work() -> Record:
        for name, (rows, schema) in tables.items():
            run.write(stage, name, pa.Table.from_pylist(rows, schema=schema))
        counted = {} if rejects is None else run.write_rejects(stage, rejects)
        measured = {"host": f"{Path.home()}/of a user"}
        return Record(stage, counts=counts, rejects=counted, facts=facts, outputs=outputs or {}, measured=measured)

    run.perform(stage, f"fingerprint of {stage}", work)
