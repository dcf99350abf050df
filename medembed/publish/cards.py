"""Cards: a manifest (and, of a dataset, its tables) in, the text of README.md out. Pure: no file but the template is read.

A fact that is absent prints «not recorded». What comes from a server or a user's column is kept to one short line; no text of a
note or query is in a manifest, and so none on a card.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml

from medembed import licences, resources
from medembed.provenance import licences_of
from medembed.recipe import is_local
from medembed.report import METRICS, VERDICTS

NOT_RECORDED = "not recorded"
TOLD_ELSEWHERE = ("base", "dataset", "hyperparameters")
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


@dataclass(frozen=True)
class Table:
    """One config of a dataset: rows by split, and the columns with their types."""

    rows: dict[str, int]
    columns: dict[str, str]


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card of a model; see model_cards/model.md.jinja."""
    recipe, upstream = manifest["recipe"], manifest["upstream"] or {}
    train, results = (manifest["stages"].get(stage, {}).get("facts", {}) for stage in ("train", "evaluate"))
    base = {"name": recipe["base"]["model"], "revision": recipe["base"].get("revision")} | _told(train.get("base"))
    dataset = {"name": recipe["data"]["dataset"]} | _told(train.get("dataset"))
    found = licences_of(upstream.get("origins", {}))
    return _render(
        "model",
        manifest,
        metadata=_yaml(_model_metadata(manifest, base["name"], dataset["name"], results)),
        base=base,
        dataset=dataset,
        results=results,
        says=VERDICTS.get(results.get("verdict"), NOT_RECORDED),
        tasks=[(task, scores) for task, scores in results.get("tasks", {}).items()],
        metrics=list(METRICS.items()),
        training=list(flat({key: value for key, value in train.items() if key not in TOLD_ELSEWHERE})),
        upstream=upstream,
        data_licences=", ".join(found) or NOT_RECORDED,
        data_open=all(map(licences.is_open, found)),
    )


def dataset_card(manifest: Mapping[str, Any], tables: Mapping[str, Table], picture: str | None = None) -> str:
    """The card of a dataset; see dataset_cards/dataset.md.jinja. `picture` is the path of that of the mining."""
    main = "triplets" if "triplets" in tables else "pairs"
    shown = {name: Table(table.rows, _short_columns(table.columns)) for name, table in tables.items()}
    return _render(
        "dataset",
        manifest,
        metadata=_yaml(_dataset_metadata(manifest, tables, main)),
        main=main,
        tables=shown,
        generated="generate" in manifest["recipe"],
        english=_languages(manifest) == ["en"],
        meaning=lambda column: MEANINGS.get(column, NOT_RECORDED),
        made={stage: record["facts"] for stage, record in manifest["stages"].items()},
        picture=picture,
        licences=licences_of(manifest["origins"]),
    )


# ---- metadata --------------------------------------------------------------------------------------------------------


def _model_metadata(manifest: Mapping[str, Any], base: str, dataset: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML head of a model's card; https://huggingface.co/docs/hub/model-cards has the keys."""
    datasets = [name for name in (dataset, _repo((manifest["upstream"] or {}).get("recipe"))) if _on_hub(name)]
    return {
        **_licence(manifest["license"]),
        "language": "en",
        **({"base_model": base, "base_model_relation": "finetune"} if _on_hub(base) else {}),
        **({"datasets": datasets[:1]} if datasets else {}),
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "medical", "retrieval"],
        **({"model-index": [_model_index(manifest["name"], results["tasks"])]} if results.get("tasks") else {}),
    }


def _model_index(name: str, tasks: Mapping[str, Any]) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "retrieval", "name": "Retrieval"},
            "dataset": {"type": task, "name": task},
            "metrics": [
                {"type": metric, "name": shown, "value": round(scores[metric]["tuned"], 5)}
                for metric, shown in METRICS.items()
                if isinstance(scores.get(metric, {}).get("tuned"), float)
            ],
        }
        for task, scores in tasks.items()
    ]
    return {"name": name, "results": results}


def _dataset_metadata(manifest: Mapping[str, Any], tables: Mapping[str, Table], main: str) -> dict[str, Any]:
    """The YAML head of a dataset's card; `configs` makes `load_dataset(repo, "triplets")` work."""
    rows = sum(tables[main].rows.values())
    generated = ["synthetic"] if "generate" in manifest["recipe"] else []
    return {
        "pretty_name": manifest["name"],
        **_licence(manifest["license"]),
        "language": _languages(manifest),
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


def _languages(manifest: Mapping[str, Any]) -> list[str]:
    """Those that the filter `language` let pass; English where there was none."""
    named = [each["language"] for each in manifest["recipe"].get("curate", []) if "language" in each]
    return list(named[-1]) if named else ["en"]


def _licence(licence: str) -> dict[str, str]:
    """The metadata of a licence: the Hub wants a name for one that it does not know."""
    if licence in licences.HUB_IDS:
        return {"license": licence}
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")
    return {"license": "other", "license_name": name if name not in ("", "other") else "see-card"}


def _repo(recipe: Mapping[str, Any] | None) -> str:
    return ((recipe or {}).get("publish") or {}).get("repo") or ""


def _on_hub(name: str) -> bool:
    return name.count("/") == 1 and not is_local(name)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


# ---- text ------------------------------------------------------------------------------------------------------------


class _NotRecorded(jinja2.ChainableUndefined):
    def __str__(self) -> str:
        return NOT_RECORDED


def _render(kind: str, manifest: Mapping[str, Any], **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder(f"{kind}_cards")),
        undefined=_NotRecorded,
        finalize=lambda value: NOT_RECORDED if value is None else value,
        autoescape=False,  # noqa: S701 - Markdown; `cell` and `flat` keep foreign text to a line
        keep_trailing_newline=True,
    )
    environment.filters |= {"points": _points, "difference": _difference, "cell": _cell, "counted": _counted}
    environment.filters |= {"settings": _settings, "share": _share, "distributions": _distributions}
    repo = manifest["recipe"]["publish"].get("repo")
    commit, version = manifest["medembed"]["commit"], manifest["medembed"]["version"]
    source = f"git+https://github.com/medembed/medembed@{commit.removesuffix('-dirty')}" if commit else ""
    return environment.get_template(f"{kind}.md.jinja").render(
        m=manifest,
        none=NOT_RECORDED,
        recipe=_yaml(manifest["recipe"]),
        on_hub=repo is not None,
        loaded_from=repo or f"./{manifest['name']}",
        llama=_llama,
        changed=(commit or "").endswith("-dirty"),
        installed=f"medembed @ {source}" if source else f"medembed=={version}",
        **more,
    )


def _llama(pairs: Any) -> str:
    """What the Llama licence asks to be said where its output was used; empty for other generators."""
    used = any("llama" in str(row.get("generator")).lower() for row in pairs if isinstance(row, dict))
    terms = (
        " Built with Llama: its community licence has rules for the name and the use of models trained on its output."
    )
    return terms if used else ""


def flat(facts: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Facts as (dotted name, short text): numbers, names and short lists; nothing that could be a passage."""
    for key, value in facts.items():
        dotted = f"{name} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, dotted)
        elif isinstance(value, list) and len(value) <= 8 and not any(isinstance(item, list | dict) for item in value):
            yield dotted, ", ".join(map(_cell, value))
        elif isinstance(value, str | int | float | None):
            yield dotted, _cell(value)


def _told(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (facts or {}).items() if value is not None}


def _short_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns, with the negatives of a triplet as one."""
    negatives = [name for name in columns if name.startswith("negative_") and name[9:].isdigit()]
    names = {negatives[0]: "negative_1 …"} if negatives else {}
    return {names.get(name, name): kind for name, kind in columns.items() if name not in negatives[1:]}


def _points(score: Any) -> str:
    return f"{100 * score:.1f}" if isinstance(score, int | float) else NOT_RECORDED


def _difference(score: Any) -> str:
    try:
        return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * score[key] for key in ("difference", "low", "high")))
    except (KeyError, TypeError, jinja2.UndefinedError):
        return NOT_RECORDED


def _cell(value: Any, most: int = 120) -> str:
    """One line of at most `most` characters that cannot break out of a table."""
    if value is None or isinstance(value, jinja2.Undefined):
        return NOT_RECORDED
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return (
        (text if len(text) <= most else f"{text[: most - 1]}…")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("`", "'")
    )


def _counted(counts: Any) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n) or "none" if counts else "none"


def _settings(said: Any) -> str:
    """A filter's settings in short: names and numbers; a model by its name and the beginning of its revision."""
    if isinstance(said, Mapping) and "model" in said and "policy" not in said:
        return f"{_cell(said['model'])} ({_cell(said.get('revision'))[:12]})"
    if isinstance(said, Mapping):
        return "; ".join(_setting(name, value) for name, value in said.items())
    if isinstance(said, list):
        bounds = len(said) == 2 and all(isinstance(each, int) for each in said)
        return (" to " if bounds else ", ").join(map(_settings, said))
    return "–" if said is True else _cell(said)


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {_settings(value)}"


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else NOT_RECORDED


def _distributions(facts: Any) -> Iterator[tuple[str, list[Any]]]:
    """The rows of a table of distributions, from their deciles."""
    shown = {
        "score of positives": "positive_scores",
        "score of negatives": "negative_scores",
        "rank of negatives": "ranks",
        "teacher's score of positives": "positive_teacher_scores",
        "teacher's score of negatives": "negative_teacher_scores",
    }
    for name, key in shown.items():
        if isinstance(facts, Mapping) and isinstance(found := facts.get(key), list) and len(found) == 11:
            yield name, [found[at] for at in (0, 1, 5, 9, 10)]
