"""Notes that look alike, and recipes over them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medembed import stages
from medembed.recipe import DatasetRecipe
from medembed.run import Record, Run

MakeRecipe = Callable[..., DatasetRecipe]

DRUGS = [
    "apixaban",
    "ramipril",
    "metformin",
    "prednisolone",
    "amoxicillin",
    "levothyroxine",
    "furosemide",
    "sertraline",
]
SIGNS = ["ankle swelling", "dry cough", "blurred vision", "night sweats", "itchy rash", "hoarse voice", "knee pain"]


def note(n: int) -> dict[str, Any]:
    drug, sign = DRUGS[n % len(DRUGS)], SIGNS[n % len(SIGNS)]
    text = f"""HPI: A {30 + n}-year-old with {sign} for {n + 2} weeks while taking {drug} {5 * (n + 1)} mg daily, worse on stairs.
No fever was noticed, and appetite is as good as it was {n + 3} months before.

Examination: Pulse {60 + n}, blood pressure {110 + n}/70, saturation {90 + n % 10} % on room air. The chest is clear.
There is mild tenderness {n + 1} cm below the left costal margin.

Plan: Stop {drug} and review in {n + 1} weeks with repeat bloods. Return at once if {sign} comes back with a fever.
A letter went to the clinic about the {n + 1} earlier admissions."""
    return {"id": f"MRN-{n:04d}", "title": f"Clinic visit {n}", "text": text}


def write_notes(path: Path, notes: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in notes), encoding="utf-8")
    return path


@pytest.fixture
def make_recipe(tmp_path: Path) -> MakeRecipe:
    """A recipe over so many notes; other arguments go into its section `generate`."""

    def make(notes: int | list[dict[str, Any]] = 6, **generate: Any) -> DatasetRecipe:
        rows = [note(n) for n in range(notes)] if isinstance(notes, int) else notes
        path = write_notes(tmp_path / "notes.jsonl", rows)
        return DatasetRecipe.model_validate(
            {
                "kind": "dataset",
                "name": "test",
                "notes": [{"source": str(path), "license": "cc0-1.0"}],
                "generate": {"concurrency": 4, "timeout": 5, **generate},
                "publish": {"folder": "hub"},
            }
        )

    return make


@pytest.fixture
def generate(tmp_path: Path) -> Callable[..., tuple[Record, Run]]:
    """Do the stage as the CLI does, in a run folder of the test."""

    def perform(recipe: DatasetRecipe, folder: str = "run") -> tuple[Record, Run]:
        run = Run(recipe, tmp_path / folder)
        return stages.perform("generate", recipe, run), run

    return perform


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medembed.llm.outcomes.FIRST_PAUSE", 0.01)
