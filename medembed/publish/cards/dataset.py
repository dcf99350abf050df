"""The card of a dataset: a manifest and what its tables hold in, a text out; see dataset_cards/dataset.md.jinja."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medembed.provenance import licences_of
from medembed.publish.cards.metadata import languages, licence
from medembed.publish.cards.rendering import as_yaml, render

SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
}
MEANINGS = {
    "passage_id": "id of the passage (of the positive): a hash of its content",
    "note_id": "id of the source document",
    "text": "the passage",
    "title": "title of the passage",
    "source": "where it comes from",
    "license": "the licence of that source",
    "query": "the query",
    "positive": "a passage that answers it, title and text",
    "query_type": "the kind of query",
    "evidence": "the words of the passage that the query was written for",
    "generator": "the language model that wrote the query; empty for labelled pairs",
    "prompt_version": "the version of its prompt",
    "negative_1 …": "hard negatives",
    "positive_score": "the retriever's score of the positive",
    "negative_scores": "and of each negative",
    "negative_ids": "passage ids of the negatives",
    "positive_teacher_score": "the teacher's score of the positive, for distillation; empty without a teacher",
    "negative_teacher_scores": "and of each negative",
    "retriever_rank": "rank of the positive for its query in the round trip; empty where there was none",
    "retriever_score": "and its score",
    "reranker_score": "score of the pair by a cross-encoder; empty where none was asked",
}
EXAMPLE = {  # written for the card: no row of any dataset
    "query": "potassium too high after adding spironolactone to an ACE inhibitor",
    "positive": "Plan K 6.1 on ramipril and spironolactone. Stop spironolactone, repeat K tomorrow, ECG now.",
    "negative_1": "Plan K 3.1 on furosemide. Start potassium chloride, repeat K in two days.",
    "query_type": "keyword",
    "evidence": "K 6.1 on ramipril and spironolactone.",
    "positive_score": 0.71,
    "negative_scores": [0.58],
}
DISTRIBUTIONS = {
    "score of positives": "positive_scores",
    "score of negatives": "negative_scores",
    "rank of negatives": "ranks",
    "teacher's score of positives": "positive_teacher_scores",
    "teacher's score of negatives": "negative_teacher_scores",
}


@dataclass(frozen=True)
class Table:
    """One config of a dataset: rows by split, and the columns with their types."""

    rows: dict[str, int]
    columns: dict[str, str]


def dataset_card(manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
    main = "triplets" if "triplets" in tables else "pairs"
    stages = manifest["stages"]
    made = {stage: record["facts"] for stage, record in stages.items()}
    return render(
        "dataset",
        manifest,
        metadata=as_yaml(_metadata(manifest, tables, main)),
        main=main,
        tables={name: Table(table.rows, _short_columns(table.columns)) for name, table in tables.items()},
        generated="generate" in manifest["recipe"],
        languages=languages(manifest),
        english=languages(manifest) == ["en"],
        meanings=MEANINGS,
        example=json.dumps({name: said for name, said in EXAMPLE.items() if name in tables[main].columns}, indent=2),
        made=made,
        distributions=_distributions(made.get("mine", {})),
        picture=next((name for name in stages.get("mine", {}).get("outputs", {}) if name.endswith(".png")), None),
        licences=licences_of(manifest["origins"]),
    )


def _metadata(manifest: Mapping[str, Any], tables: Mapping[str, Table], main: str) -> dict[str, Any]:
    """The YAML head; `configs` makes `load_dataset(repo, "triplets")` work."""
    rows = sum(tables[main].rows.values())
    generated = ["synthetic"] if "generate" in manifest["recipe"] else []
    return {
        "pretty_name": manifest["name"],
        **licence(manifest["license"]),
        "language": languages(manifest),
        "task_categories": ["text-retrieval", "sentence-similarity"],
        "size_categories": [next((name for below, name in SIZES.items() if rows < below), "100M<n<1B")],
        "tags": ["medical", "retrieval", "sentence-transformers", *generated],
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in table.rows],
                **({"default": True} if config == main else {}),
            }
            for config, table in tables.items()
        ],
    }


def _short_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns, with the negatives of a triplet as one."""
    negatives = [name for name in columns if name.startswith("negative_") and name[9:].isdigit()]
    names = {negatives[0]: "negative_1 …"} if negatives else {}
    return {names.get(name, name): kind for name, kind in columns.items() if name not in negatives[1:]}


def _distributions(mined: Mapping[str, Any]) -> dict[str, list[float]]:
    """Least, 10 %, median, 90 % and most of what mining told by its deciles."""
    told = {name: mined.get(key) for name, key in DISTRIBUTIONS.items()}
    return {
        name: [deciles[at] for at in (0, 1, 5, 9, 10)]
        for name, deciles in told.items()
        if isinstance(deciles, list) and len(deciles) == 11
    }
