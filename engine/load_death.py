"""Why a worker died while it loaded its model, told from how it ended. Pure.

A file that is damaged makes llama.cpp abort or touch memory that is not its own (see docs/troubleshooting.md); a build
for another processor, and memory that runs out, end it in other ways, and fetching the file again mends neither.
"""

from __future__ import annotations

import signal

from engine.errors import InsufficientMemory, ModelLoadFailed, NibbleError


def load_death(model_id: str, returncode: int, last_line: str = "") -> NibbleError:
    """The error for whoever waits for the load. ``returncode`` is as ``subprocess`` has it: negative for a signal."""
    cause = cause_of(returncode)
    said = f"; its last words: {last_line}" if last_line else ""
    # Each sentence whole, although they begin alike: docs/models.md has a row for each.
    match -returncode:
        case signal.SIGILL:
            return ModelLoadFailed(
                f"the worker of {model_id} {cause} while loading{said}."
                " llama.cpp was built for another processor than this one: build it here, with 'make setup',"
                " or take an image for this processor; the file is not at fault"
            )
        case signal.SIGKILL:
            return InsufficientMemory(
                f"the worker of {model_id} {cause} while loading{said}."
                " Most likely the system ended it because memory ran out: take a smaller file, set a smaller"
                " context or parallel, or give the server more memory"
            )
        case signal.SIGBUS:
            return ModelLoadFailed(
                f"the worker of {model_id} {cause} while loading{said}."
                " The file was cut short while it was read, or its disk fails: see that nobody writes to it,"
                " and fetch it again"
            )
        case signal.SIGSEGV | signal.SIGABRT | signal.SIGFPE:
            return ModelLoadFailed(
                f"the worker of {model_id} {cause} while loading{said}."
                " The file is likely damaged: fetch it again"
            )
        case signal.SIGTERM | signal.SIGINT | signal.SIGHUP | signal.SIGQUIT:
            return ModelLoadFailed(
                f"the worker of {model_id} {cause} while loading{said}."
                " Somebody ended it from outside: ask for the model again"
            )
        case _:
            return ModelLoadFailed(
                f"the worker of {model_id} {cause} while loading{said}. The log of the server tells more"
            )


def cause_of(returncode: int) -> str:
    """How a process ended, to be read after its name."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
