"""distilabel's own pipeline, with the client of its OpenAILLM, which repeats what fails in passing.

python distilabel_pipeline.py REQUESTS.jsonl URL ANSWERS.jsonl BATCH REPLICAS
"""

import json
import sys
from pathlib import Path

from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepResources
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":
    _, requests, url, answers, batch, replicas = sys.argv
    asked = [json.loads(line) for line in Path(requests).read_text(encoding="utf-8").splitlines()]
    [system, _], schema = asked[0]["messages"], asked[0]["response_format"]
    with Pipeline() as pipeline:
        # All rows are handed over at once: else a replica waits for rows while another works.
        instructions = [{"instruction": each["messages"][-1]["content"]} for each in asked]
        load = LoadDataFromDicts(data=instructions, batch_size=len(asked))
        generate = TextGeneration(
            llm=OpenAILLM(
                model="tgi",
                base_url=f"{url}/v1",
                api_key="none",
                timeout=300,
                max_retries=100,
                generation_kwargs={
                    "max_new_tokens": asked[0]["max_tokens"],
                    "temperature": asked[0]["temperature"],
                    "extra_body": {"response_format": schema, "seed": asked[0]["seed"]},
                },
            ),
            system_prompt=system["content"],
            input_batch_size=int(batch),
            resources=StepResources(replicas=int(replicas)),
            add_raw_input=False,
            add_raw_output=False,
        )
        load >> generate
    rows = pipeline.run(use_cache=False)["default"]["train"]
    rows.select_columns("generation").rename_column("generation", "answer").to_json(answers)
