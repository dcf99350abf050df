"""The way of MedEmbed v0.1: `datasets.map` over processes, a synchronous client in each; a failed request becomes nothing.

python original.py REQUESTS.jsonl URL ANSWERS.jsonl PROCESSES
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_caching, disable_progress_bars
from huggingface_hub import InferenceClient


@cache
def client(url: str) -> InferenceClient:
    return InferenceClient(base_url=url, timeout=300)


def ask(row: dict[str, str], url: str) -> dict[str, Any]:
    request = json.loads(row["request"])
    try:
        return {"answer": client(url).chat_completion(**request).choices[0].message.content}
    except Exception:  # as the original did
        return {"answer": None}


if __name__ == "__main__":
    _, requests, url, answers, processes = sys.argv
    disable_caching()
    disable_progress_bars()
    rows = Dataset.from_dict({"request": Path(requests).read_text(encoding="utf-8").splitlines()})
    rows.map(ask, fn_kwargs={"url": url}, num_proc=int(processes)).select_columns("answer").to_json(answers)
