"""`accelerate launch [--config_file YAML] -m medembed.evaluate RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch."""

from typing import Any

from medembed import distributed, report
from medembed.jobs import echo


def main() -> None:
    if record := distributed.work("evaluate", "Model → results of base and tuned.", lambda recipe: _Models()):
        echo(report.results(record))


class _Models:
    """The model of a job: loaded when the jobs turn to another one."""

    def __init__(self) -> None:
        self._named: Any = None
        self._model: Any = None

    def __call__(self, job: Any) -> Any:
        if job.named != self._named:
            self._named, self._model = job.named, job.named.encoder()
        return self._model


if __name__ == "__main__":
    main()
