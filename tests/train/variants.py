"""What each process of one `accelerate launch` does in test_variants: it imports everything once, and forks for each variant.

Each fork is a whole `python -m medembed.train` of its own, with this process's rank, that meets its fellow at a port of their own.
Orders: a JSON list of (arguments, log, port).
"""

import json
import os
import sys
import traceback
from pathlib import Path


def main() -> None:
    import mteb  # noqa: F401

    import medembed.train.__main__  # noqa: F401

    codes = []
    for arguments, log, port in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        if not (child := os.fork()):
            os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
            _train(arguments, log)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    Path(f"{sys.argv[1]}.{os.environ['RANK']}").write_text(json.dumps(codes), encoding="utf-8")


def _train(arguments: list[str], log: str) -> None:
    from medembed.train.__main__ import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    sys.argv = ["medembed.train", *arguments]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as leave:
        code = int(leave.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
