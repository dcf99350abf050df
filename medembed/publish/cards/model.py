"""The card of a model, and its results as the Hub lists them: a manifest in, texts out; see model_cards/model.md.jinja."""

import math
import re
from collections.abc import Mapping
from typing import Any

from medembed import licences
from medembed.provenance import licences_of
from medembed.publish.cards.energy import estimate
from medembed.publish.cards.metadata import is_on_hub, languages, licence
from medembed.publish.cards.rendering import as_yaml, render
from medembed.report import METRICS, VERDICTS

MAIN = "ndcg_at_10"
PICTURE = "compressed.png"
LOSSES = {
    "contrastive": "contrastive (InfoNCE over in-batch and hard negatives)",
    "distil": "distillation of a teacher's scores (KL)",
    "margin_mse": "margin MSE to a teacher's scores",
}
LOST = 0.01  # of nDCG@10: what a smaller index may cost to be recommended


def model_card(manifest: Mapping[str, Any]) -> str:
    recipe, stages, upstream = manifest["recipe"], manifest["stages"], manifest["upstream"] or {}
    train, results, exported = (_facts(stages, stage) for stage in ("train", "evaluate", "export"))
    measured = {stage: manifest["measured"].get(stage, {}) for stage in ("train", "evaluate")}
    base = {"name": recipe["base"]["model"], "revision": recipe["base"].get("revision")} | _told(train.get("base"))
    dataset = {"name": recipe["data"]["dataset"]} | _told(train.get("dataset"))
    tuned: dict[str, Any] = next((it for it in results.get("models", []) if it["role"] == "tuned"), {})
    late = recipe["train"]["method"] == "late-interaction" or tuned.get("vectors") == "one a token"
    found = licences_of(upstream.get("origins", {}))
    return render(
        "model",
        manifest,
        metadata=as_yaml(_metadata(manifest, base["name"], dataset["name"], results, late=late)),
        base=base,
        dataset=dataset,
        results=results,
        says=VERDICTS.get(results.get("verdict", "")),
        metrics=METRICS,
        main=MAIN,
        tuned=tuned,
        zero_shot=_zero_shot(tuned),
        late=late,
        embeds=train.get("model") or {},
        plain=_is_plain(train.get("model") or {}),
        forms=_by_dimensions(tuned.get("compressed", [])),
        smallest=_smallest(tuned.get("compressed", [])),
        speed=measured["evaluate"].get("speed", {}),
        exported=exported,
        onnx=_onnx(exported),
        picture=PICTURE if PICTURE in stages.get("evaluate", {}).get("outputs", {}) else None,
        train=train,
        losses={LOSSES.get(name, name): weight for name, weight in recipe["train"]["losses"].items() if weight},
        counts=stages.get("train", {}).get("counts", {}),
        hardware=measured["train"],
        energy=estimate(measured["train"]),
        upstream=upstream,
        data_licences=found,
        data_open=all(map(licences.is_open, found)),
    )


def eval_results(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Path in the repository → a result as the Hub lists it: one file for each task whose data is on the Hub.

    https://huggingface.co/docs/hub/eval-results; the Hub shows those of datasets that are registered as benchmarks.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    repo, results = manifest["recipe"]["publish"].get("repo"), _facts(manifest["stages"], "evaluate")
    files = {}
    for task, scores in results.get("tasks", {}).items():
        if (listed := scores.get("benchmark")) and isinstance(score := scores[MAIN]["tuned"], float):
            entry = EvalResultEntry(
                dataset_id=listed["dataset"],
                task_id=listed["task_id"],
                value=round(100 * score, 3),
                dataset_revision=listed["revision"] if len(listed["revision"]) == 40 else None,
                source_url=f"https://huggingface.co/{repo}/tree/main/results" if repo else None,
                source_name="mteb's result files" if repo else None,
                notes=f"nDCG@10 × 100, mteb {manifest['libraries'].get('mteb')}",
            )
            name = re.sub(r"[^\w.-]", "-", task)
            files[f".eval_results/{name}.yaml"] = as_yaml(eval_result_entries_to_yaml([entry]))
    return files


# ---- metadata --------------------------------------------------------------------------------------------------------


def _metadata(
    manifest: Mapping[str, Any], base: str, dataset: str, results: Mapping[str, Any], *, late: bool
) -> dict[str, Any]:
    datasets = [name for name in (dataset, _published(manifest["upstream"])) if is_on_hub(name)]
    kind = ["multi-vector", "ColBERT", "late-interaction"] if late else ["text-embeddings-inference"]
    return {
        **licence(manifest["license"]),
        "language": languages(manifest["upstream"]),
        **({"base_model": base, "base_model_relation": "finetune"} if is_on_hub(base) else {}),
        **({"datasets": datasets[:1]} if datasets else {}),
        "library_name": "sentence-transformers",
        "pipeline_tag": "feature-extraction" if late else "sentence-similarity",
        "tags": ["sentence-transformers", "medical", "retrieval", "embeddings", *kind],
        **_model_index(manifest["name"], results.get("tasks") or {}),
    }


def _published(upstream: Any) -> Any:
    """The repository of a dataset, as its recipe names it."""
    for key in ("recipe", "publish", "repo"):
        upstream = upstream.get(key) if isinstance(upstream, Mapping) else None
    return upstream


def _model_index(name: str, tasks: Mapping[str, Any]) -> dict[str, Any]:
    told = [_of_task(task, scores) for task, scores in tasks.items()]
    measured = [each for each in told if each["metrics"]]  # the Hub takes none without
    return {"model-index": [{"name": name, "results": measured}]} if measured else {}


def _of_task(task: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    data = scores.get("benchmark") or {"dataset": task}
    revision = {"revision": data["revision"]} if "revision" in data else {}
    return {
        "task": {"type": "retrieval", "name": "Retrieval"},
        "dataset": {"type": data["dataset"], "name": task, **revision},
        "metrics": [
            {"type": metric, "name": shown, "value": round(scores[metric]["tuned"], 5)}
            for metric, shown in METRICS.items()
            if isinstance(value := scores.get(metric, {}).get("tuned"), float) and math.isfinite(value)
        ],
    }


# ---- facts -----------------------------------------------------------------------------------------------------------


def _facts(stages: Mapping[str, Any], stage: str) -> dict[str, Any]:
    facts: dict[str, Any] = stages.get(stage, {}).get("facts", {})
    return facts


def _told(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (facts or {}).items() if value is not None}


def _is_plain(embeds: Mapping[str, Any]) -> bool:
    """Whether a transformer, a pooling that is one line, and maybe a scaling to unit length are all there is."""
    modules = embeds.get("modules")
    return embeds.get("pooling") in ("mean", "cls") and modules in (
        ["Transformer", "Pooling"],
        ["Transformer", "Pooling", "Normalize"],
    )


def _by_dimensions(compressed: list[dict[str, Any]]) -> dict[int, dict[str, dict[str, Any]]]:
    """The forms that embeddings were measured in: dimensions → precision → what it takes and gives; none where the whole stands alone."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for form in compressed if len(compressed) > 1 else []:
        found.setdefault(form["dimensions"], {})[form["precision"]] = form
    return found


def _smallest(compressed: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The form of fewest bytes that costs less than a point; None where only the whole embedding does."""
    if not compressed:
        return None
    whole = compressed[0]
    kept = [form for form in compressed[1:] if whole["average"] - form["average"] < LOST]
    smallest = min(kept, key=lambda form: (form["bytes"], -form["average"]), default=None)
    return smallest and smallest | {"change": smallest["average"] - whole["average"], "of": whole["bytes"]}


def _onnx(exported: Mapping[str, Any]) -> str | None:
    """The file that ONNX Runtime is shown with: the one of full precision, else the first that is published."""
    published = [
        path for path, file in exported.get("files", {}).items() if file["published"] and path.endswith(".onnx")
    ]
    return next(
        (path for path in published if exported["files"][path]["precision"] == "fp32"), next(iter(published), None)
    )


def _zero_shot(tuned: Mapping[str, Any]) -> int | None:
    """How many of the tasks are zero-shot for the model."""
    states = tuned.get("zero_shot")
    return list(states.values()).count("zero-shot") if isinstance(states, Mapping) else None
