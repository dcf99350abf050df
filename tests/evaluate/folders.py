"""BEIR folders for the tests, small enough to be ranked in a moment."""

import json
from pathlib import Path

PASSAGES = [
    ("d1", "Chest pain", "acute chest pain in heart failure, high blood pressure"),
    ("d2", "", "asthma treatment with daily oral steroid"),
    ("d3", "Stroke", "stroke after left sided weakness, start treatment and follow up"),
    ("d4", "", "insulin dose for diabetes with raised labs"),
    ("d5", "Fever", "fever and cough without chest pain, antibiotic iv"),
    ("d6", "", "chronic knee pain, no antibiotic, exam normal"),
    ("d7", "", "patient with low blood pressure, stop oral dose"),
    ("d8", "Plan", "follow up plan of the patient with chronic asthma"),
    ("d9", "", "history of stroke and diabetes, no fever"),
    ("d10", "", "cough before and after antibiotic treatment"),
    ("d11", "", "raised blood pressure during acute stroke"),
    ("d12", "", "labs normal, insulin stopped"),
]
QUERIES = [
    ("q1", "what causes chest pain"),
    ("q2", "how is asthma treated"),
    ("q3", "stroke follow up"),
    ("q4", "which dose of insulin"),
    ("q5", "antibiotic for fever and cough"),
    ("q6", "chronic pain of the knee"),
]
JUDGMENTS = [
    ("q1", "d1", 2),
    ("q1", "d5", 1),
    ("q2", "d2", 2),
    ("q2", "d8", 1),
    ("q3", "d3", 1),
    ("q3", "d9", 0),
    ("q4", "d4", 2),
    ("q4", "d12", 1),
    ("q5", "d5", 2),
    ("q5", "d10", 1),
    ("q6", "d6", 1),
]


def write_beir(folder: Path, *, passages=PASSAGES, queries=QUERIES, judgments=JUDGMENTS, split: str = "test") -> Path:
    """Write the folder; passages are (id, title, text), queries (id, text), judgments (query id, passage id, grade)."""
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": i, "title": title, "text": text}) for i, title, text in passages]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    rows = [json.dumps({"_id": i, "text": text}) for i, text in queries]
    (folder / "queries.jsonl").write_text("\n".join(rows) + "\n")
    rows = ["query-id\tcorpus-id\tscore", *(f"{query}\t{passage}\t{grade}" for query, passage, grade in judgments)]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder
