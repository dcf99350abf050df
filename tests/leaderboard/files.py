"""Result files in mteb's layout, small and real: what `mteb.evaluate` leaves behind, as far as the leaderboard reads it."""

import json
from pathlib import Path
from typing import Any

from medembed.leaderboard.tasks import TASKS

WHOLE = {"dataset_revision": "1", "evaluation_time": 1.0}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_result(
    place: Path, model: str, task: str, score: float, *, revision: str = COMMIT, version: str = "2.1.0"
) -> Path:
    """The result of one model on one task, the same score in all its parts, at its place under `place`/results."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for split, subset in TASKS[task].parts:
        part = {"hf_subset": subset, "languages": ["eng-Latn"], "main_score": score, "ndcg_at_10": score}
        parts.setdefault(split, []).append(part)
    return write(place, model, task, {**WHOLE, "task_name": task, "mteb_version": version, "scores": parts}, revision)


def write(place: Path, model: str, task: str, content: Any, revision: str = COMMIT) -> Path:
    path = place / "results" / model.replace("/", "__") / revision / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_meta(place: Path, model: str, revision: str = COMMIT, **facts: Any) -> None:
    folder = place / "results" / model.replace("/", "__") / revision
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_meta.json").write_text(json.dumps({"name": model, "revision": revision} | facts))
