"""A job that does as its request says, for tests of whoever holds jobs: ``python -m tests.fakes.job``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from engine import job_pipe

_LONG_S = 600.0


def main() -> None:
    left = Path(os.environ.get("TMPDIR", "")) / "left-behind"
    word = job_pipe.read_request(lambda: left.unlink(missing_ok=True)).decode().strip()
    job_pipe.tell(f"heard {word} {os.getpid()}".encode())
    match word:
        case "abort":
            print("my last words", file=sys.stderr, flush=True)
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "much":
            for number in range(20_000):
                job_pipe.tell(str(number).encode())
                print("noise", file=sys.stderr)
        case "wait":
            left.write_text("not done")
            job_pipe.tell(b"waiting")
            time.sleep(_LONG_S)
        case _:
            pass


if __name__ == "__main__":
    main()
