"""Fixed manifests of each kind of artifact: what golden cards are rendered from. The figures are those of tiny random models: no claims.

python -m tests.publish.manifests        renews the golden cards in tests/publish/cards/: look at the difference before you commit it
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from medembed.publish.cards import Table, dataset_card, eval_results, model_card
from tests.publish.runs import CURATED

CARDS = Path(__file__).parent / "cards"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "89abcdef0123456789abcdef0123456789abcdef"
BASE = "sentence-transformers-testing/stsb-bert-tiny-safetensors"
OTHER = "tiny-random/other-embedder"
QUERY = "Represent this sentence for searching relevant passages: "
LIBRARIES = {"mteb": "2.26.24", "sentence-transformers": "6.2.0", "torch": "2.13.0", "transformers": "5.23.0"}
COLUMNS = {
    "corpus": ("passage_id", "note_id", "text", "title", "source", "license"),
    "pairs": ("query", "positive", "query_type", "passage_id", "note_id", "evidence", "generator", "prompt_version"),
    "triplets": ("query", "positive", "negative_1", "negative_2", "passage_id", "note_id"),
}
TABLES = {
    config: Table(
        {"train": 11} if config == "corpus" else {"train": 5, "dev": 1},
        dict.fromkeys(names, "string")
        | ({"positive_score": "float", "negative_scores": "list of float"} if config == "triplets" else {}),
    )
    for config, names in COLUMNS.items()
}


@cache
def rendered() -> dict[str, str]:
    """File in tests/publish/cards/ → what stands in it."""
    dense_results = {f"model-dense{path.replace('/', '-')}": text for path, text in eval_results(dense()).items()}
    return {
        "model-dense.md": model_card(dense()),
        "model-late-interaction.md": model_card(late()),
        "model-nothing-recorded.md": model_card(bare(dense())),
        "dataset-triplets.md": dataset_card(triplets(), TABLES),
        "dataset-pairs.md": dataset_card(pairs(), {name: TABLES[name] for name in ("corpus", "pairs")}),
        "dataset-nothing-recorded.md": dataset_card(bare(triplets()), TABLES),
        **dense_results,
    }


def dense() -> dict[str, Any]:
    """A dense model on the Hub: two tasks of mteb and a local one, another model compared, exports, Matryoshka, development data."""
    recipe = _model_recipe("tiny-embed", publish={"repo": "medembed/tiny-embed"})
    return _manifest(
        "model",
        recipe,
        license="apache-2.0",
        training_datasets=["medembed/tiny-triplets", "common-pile/pubmed_filtered"],
        decontamination={
            "NFCorpus": {
                "state": "decontaminated",
                "ngram": 8,
                "boilerplate": 3,
                "near": 0.95,
                "removed": {"queries": 1},
            },
            "PublicHealthQA": {"state": "decontaminated", "ngram": 8, "boilerplate": 3, "near": 0.95, "removed": {}},
            "own-task": {"state": "not checked"},
        },
        stages={
            "train": _train(),
            "evaluate": {"facts": _results(), "outputs": {"compressed.png": COMMIT, "compressed.svg": COMMIT}},
            "export": {"facts": _exported()},
        },
        upstream=triplets(),
        measured={
            "train": {"device": "NVIDIA L4", "processes": 2, "threads": 8, "resumed": False, "seconds": 90.0},
            "evaluate": {
                "speed": {
                    name: {
                        "device": "NVIDIA L4",
                        "embeddings_per_second": {"1": 211.0, "32": 2110.0},
                        "peak_gpu_bytes": 2110000,
                    }
                    for name in (BASE, "tiny-embed")
                }
            },
        },
    )


def late() -> dict[str, Any]:
    """A model of late interaction in a folder, worse than its base, and published for a reason that its author gives."""
    publish = {"folder": "tiny-colbert", "allow_regression": "The first of its kind here; kept for comparison."}
    made = dense()
    recipe = _model_recipe("tiny-colbert", publish=publish, method="late-interaction", matryoshka=[])
    train, results = made["stages"]["train"], made["stages"]["evaluate"]["facts"]
    train["facts"]["model"] |= {
        "modules": ["Transformer", "Dense", "MultiVectorMask", "Normalize"],
        "pooling": None,
        "prompts": {"query": "", "document": ""},
        "similarity": "maxsim",
    }
    del train["facts"]["development"]
    results |= {"verdict": "REGRESSION", "compared": {}, "average": _compared(0.041, -0.021), "zero_shot_average": None}
    results |= {"tuned": {"name": "tiny-colbert", "revision": WEIGHTS}}
    results["models"] = [it | {"name": it["name"].replace("embed", "colbert")} for it in results["models"][:2]]
    results["models"][1] |= {"vectors": "one a token", "dimensions": 128, "compressed": []}
    measured = {"train": {"device": "CPU", "processes": 1, "threads": 2, "resumed": True, "seconds": 90.0}}
    stages = {"train": train, "evaluate": {"facts": results}}
    return made | {"name": "tiny-colbert", "recipe": recipe, "stages": stages, "upstream": None, "measured": measured}


def triplets() -> dict[str, Any]:
    """A dataset on the Hub with all stages: generated, filtered, searched for identifiers, decontaminated, mined with a teacher."""
    recipe = {
        "kind": "dataset",
        "name": "tiny-triplets",
        "notes": [{"source": "common-pile/pubmed_filtered", "columns": {"license": "metadata.license"}}],
        "generate": {
            "prompt": "clinical-queries-v1",
            "queries": {"keyword": 1, "question": 2},
            "schema": "required",
            "temperature": 0.7,
            "max_tokens": 2048,
            "seed": 42,
        },
        "curate": [{"duplicates": {"near": 0.85}}, {"decontaminate": "default"}, {"phi": "redact"}],
        "split": {"dev": 0.2, "seed": 42},
        "mine": {
            "negatives": 2,
            "ranks": [1, 100],
            "relative_margin": 0.95,
            "min_score": 0.1,
            "max_score": 0.8,
            "near_duplicate": 0.8,
            "exclude_note": True,
            "sampling": "top",
            "fewer": "fill",
            "teacher": {"model": "tiny-random/reranker", "relative_margin": 0.9},
            "judge": {"above": 0.85, "answers": "relabel"},
        },
        "publish": {"repo": "medembed/tiny-triplets", "about": "Made for the tests of its card."},
    }
    rows = {"source": "common-pile/pubmed_filtered", "license": "cc-by-4.0"}
    generator = {"generator": "meta-llama/Llama-3.3-70B-Instruct", "prompt_version": "clinical-queries-v1@01234567"}
    return _manifest(
        "dataset",
        recipe,
        license="cc-by-4.0",
        origins={"pairs": [rows | generator | {"rows": 6}], "corpus": [rows | {"rows": 11}]},
        attributions=[
            {
                "source": "common-pile/pubmed_filtered",
                "license": "cc-by-4.0",
                "link": "https://huggingface.co/datasets/common-pile/pubmed_filtered",
                "terms": "https://creativecommons.org/licenses/by/4.0/",
            }
        ],
        stages={
            "generate": {
                "counts": {"notes": 4, "pairs": 9},
                "rejects": {"evidence not in note": 2},
                "facts": generator
                | {"tokens": {"in": 2110, "out": 211}, "prompt": "You write search queries.\n\n```json\n{}\n```"},
            },
            "curate": {"counts": {"pairs in": 9, "pairs": 6}, "rejects": {"near-duplicate": 2}, "facts": _curated()},
            "mine": {
                "counts": {"pairs in": 6, "triplets": 6},
                "rejects": {},
                "facts": _mined(),
                "outputs": {"mining.png": COMMIT},
            },
        },
        measured={},
    )


def pairs() -> dict[str, Any]:
    """Labelled pairs in a folder: no language model, no filters of identifiers or evaluation data, no negatives."""
    made = triplets()
    recipe = {
        "kind": "dataset",
        "name": "tiny-pairs",
        "pairs": [{"source": "pairs.jsonl", "license": "cc0-1.0"}],
        "curate": [],
        "split": {"dev": 0.0, "seed": 42},
        "publish": {"folder": "tiny-pairs"},
    }
    rows = {"source": "pairs.jsonl", "license": "cc0-1.0", "rows": 6}
    curated = {"counts": {"pairs in": 6, "pairs": 6}, "rejects": {}, "facts": {"unusable": {}, "filters": []}}
    return made | {
        "name": "tiny-pairs",
        "recipe": recipe,
        "license": "cc0-1.0",
        "origins": {"pairs": [rows | {"generator": None, "prompt_version": None}], "corpus": [rows]},
        "attributions": [],
        "stages": {"curate": curated},
    }


def bare(manifest: dict[str, Any]) -> dict[str, Any]:
    """What is left of a manifest when nothing was recorded but the recipe."""
    nothing = {"stages": {}, "upstream": None, "measured": {}, "origins": {}, "attributions": [], "libraries": {}}
    declared = {"training_datasets": None, "decontamination": None} if manifest["kind"] == "model" else {}
    return manifest | nothing | declared | {"medembed": {"version": "0.1.0", "commit": None}, "python": None}


def _manifest(kind: str, recipe: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": kind,
        "name": recipe["name"],
        "recipe": recipe,
        "medembed": {"version": "0.1.0", "commit": COMMIT},
        "python": "3.11.0",
        "libraries": LIBRARIES,
        "origins": {},
        "attributions": [],
        "upstream": None,
    } | more


def _model_recipe(name: str, *, publish: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {
        "kind": "model",
        "name": name,
        "base": {"model": BASE, "revision": COMMIT, "max_length": 64},
        "data": {"dataset": "medembed/tiny-triplets", "revision": "v1.0.0"},
        "train": {
            "method": "dense",
            "losses": {"contrastive": 1.0, "distil": 0.5, "margin_mse": 0.0},
            "temperature": 0.02,
            "matryoshka": [16, 8],
            "batch_size": 4,
            "accumulation": 1,
            "learning_rate": 2e-05,
            "warmup": 0.1,
            "weight_decay": 0.01,
            "precision": "fp32",
            "seed": 42,
        }
        | train,
        "evaluate": {
            "tasks": ["NFCorpus", "PublicHealthQA", "own-task"],
            "languages": ["eng"],
            "resamples": 10000,
            "seed": 42,
        },
        "publish": publish,
    }


def _train() -> dict[str, Any]:
    return {
        "counts": {"rows in": 6, "rows": 5, "rows of an epoch": 4},
        "facts": {
            "base": {"name": BASE, "revision": COMMIT},
            "dataset": {"name": "medembed/tiny-triplets", "revision": COMMIT},
            "steps": 4,
            "pairs": 16,
            "loss": {"first": 1.3863, "last": 1.3741},
            "compared_with": "each query is compared with 12 passages: its own, 3 of other queries, 8 hard negatives",
            "guide": {"name": OTHER, "revision": COMMIT, "left_out": 0.0211},
            "checks": {
                "lengths": {"max_length": 64, "cut": {"query": 0.0, "positive": 0.211}, "sample": 5},
                "tasks": {
                    "NFCorpus": {"queries": 0, "passages": 0},
                    "PublicHealthQA": {"queries": 0, "passages": 0},
                    "own-task": "the data of own-task cannot be loaded",
                },
            },
            "development": {
                "rankings": {"dev": {"queries": 1, "passages": 11}},
                "base": 0.0211,
                "candidates": [{"steps": [4], "base": 0.0}, {"steps": [4], "base": 0.2}],
                "chosen": {"steps": [4], "base": 0.2, "ndcg_at_10": 0.0311},
            },
            "model": {
                "modules": ["Transformer", "Pooling", "Normalize"],
                "pooling": "cls",
                "prompts": {"query": QUERY, "document": ""},
                "max_length": 64,
                "lengths": {},
                "similarity": "cosine",
            },
        },
    }


def _compared(base: float, change: float) -> dict[str, Any]:
    ends = {"low": change - 0.011, "high": change + 0.011, "p": 0.211, "corrected_p": 0.422}
    return {"base": base, "tuned": base + change, "difference": change, **ends, "wins": 2, "ties": 11, "losses": 1}


def _results() -> dict[str, Any]:
    metrics = {
        "ndcg_at_10": _compared(0.021, 0.002),
        "mrr_at_10": _compared(0.031, 0.001),
        "recall_at_10": _compared(0.041, -0.001),
    }
    benchmarks = {
        "NFCorpus": {"dataset": "mteb/nfcorpus", "revision": COMMIT, "task_id": "NFCorpus"},
        "PublicHealthQA": {
            "dataset": "xhluca/publichealth-qa",
            "revision": "main",
            "task_id": "PublicHealthQA_english_test",
        },
    }
    sizes = {"queries": 14, "passages": 1100}
    states = {"NFCorpus": "zero-shot", "PublicHealthQA": "trained on", "own-task": "not known"}
    forms = [
        (32, "float32", 128, 0.023),
        (32, "int8", 32, 0.023),
        (32, "binary", 4, 0.009),
        (32, "binary, rescored", 4, 0.011),
    ]
    forms += [
        (16, "float32", 64, 0.021),
        (16, "int8", 16, 0.019),
        (16, "binary", 2, 0.005),
        (16, "binary, rescored", 2, 0.007),
    ]
    models = [
        {
            "name": name,
            "revision": COMMIT,
            "role": role,
            "zero_shot": states,
            "zero_shot_share": None if role == "compared" else 33.3,
            "parameters": 22000,
            "weights_bytes": 88000,
            "dimensions": 32,
            "max_length": 64,
            "vectors": "one a text",
            "index": {"NFCorpus": {"passages": 1100, "vectors": 1100, "bytes": 140800}},
            "compressed": [
                {"dimensions": d, "precision": precision, "bytes": b, "average": score}
                for d, precision, b, score in forms
            ],
        }
        for name, role in ((BASE, "base"), ("tiny-embed", "tuned"), (OTHER, "compared"))
    ]
    return {
        "tasks": {
            task: sizes | ({"benchmark": benchmarks[task]} if task in benchmarks else {}) | metrics for task in states
        },
        "average": _compared(0.021, 0.002),
        "zero_shot_average": _compared(0.021, 0.003),
        "verdict": "MARGINAL",
        "base": {"name": BASE, "revision": COMMIT},
        "tuned": {"name": "tiny-embed", "revision": WEIGHTS},
        "compared": {OTHER: {"average": _compared(0.022, 0.001), "verdict": "MARGINAL"}},
        "models": models,
    }


def _exported() -> dict[str, Any]:
    score = {"NFCorpus": {"original": 0.023, "exported": 0.023}}
    return {
        "files": {
            "onnx/model.onnx": {
                "precision": "fp32",
                "bytes": 88000,
                "cosine": {"mean": 1.0, "min": 0.99999},
                "ndcg_at_10": score,
                "published": True,
            },
            "onnx/model_quint8_avx2.onnx": {
                "precision": "int8",
                "bytes": 22000,
                "cosine": {"mean": 0.71, "min": 0.211},
                "ndcg_at_10": {"NFCorpus": {"original": 0.023, "exported": 0.002}},
                "published": False,
            },
        },
        "runtimes": {"onnxruntime": "1.32.0"},
    }


def _curated() -> dict[str, Any]:
    removed = {"queries": {"query match": 1, "n-gram": 0}, "passages": {"n-gram": 1}}
    task = {"revision": COMMIT, "queries": 323, "passages": 3633, "boilerplate": 21, "removed": removed}
    settings = {"ngram": 8, "boilerplate": 3, "near": 0.95, "retriever": OTHER}
    return CURATED | {
        "phi": CURATED["phi"] | {"remaining": {"date": 1}},
        "decontaminate": {"tasks": {"NFCorpus": task}} | settings,
    }


def _mined() -> dict[str, Any]:
    deciles = {name: [round(0.02 * n, 2) for n in range(11)] for name in ("positive_scores", "negative_scores")}
    return deciles | {
        "retriever": {"name": OTHER, "revision": COMMIT},
        "teacher": {"name": "tiny-random/reranker", "revision": COMMIT, "scores": "logits"},
        "judge": {
            "model": "tiny-random/judge",
            "prompt_version": "judge-v1@01234567",
            "asked": 11,
            "answer the query": 3,
            "do not": 7,
            "no verdict": 1,
        },
        "ranks": list(range(1, 12)),
        "suspected_false_negatives": 0.211,
    }


if __name__ == "__main__":
    CARDS.mkdir(exist_ok=True)
    for path in CARDS.iterdir():
        path.unlink()
    for name, text in rendered().items():
        (CARDS / name).write_text(text, encoding="utf-8")
    print(json.dumps(sorted(rendered()), indent=2))
