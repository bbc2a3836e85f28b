"""Where in a request's body something is, as OpenAI writes it: ``messages[0].content``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic_core import ErrorDetails

from routes.not_served import UNSUPPORTED_FIELD

Step = str | int

_NOWHERE = object()


def field_path(steps: Iterable[Step]) -> str:
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def steps_of(error: ErrorDetails, body: object) -> tuple[Step, ...]:
    """The steps of a Pydantic error that lead through ``body``: without the names of union branches."""
    steps = _through(body, error["loc"], is_missing=error["type"] == "missing")
    if error["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return (*steps, str(error["ctx"]["discriminator"]).strip("'"))
    return steps


def most_telling(errors: Sequence[ErrorDetails], body: object) -> tuple[list[ErrorDetails], tuple[Step, ...]]:
    """What a person should read, all at one place: in the first field that is wrong, what got furthest.

    A value that fits no branch of a union brings an error per branch; the branch that got further in, or
    that minded the value rather than its type, is the one that was meant.
    """
    placed = [(error, steps_of(error, body)) for error in errors]
    field = placed[0][1][:1]
    ranks = [(_rank(error, steps), error, steps) for error, steps in placed if steps[:1] == field]
    best = max(rank for rank, _, _ in ranks)
    where = next(steps for rank, _, steps in ranks if rank == best)
    return [error for rank, error, steps in ranks if rank == best and steps == where], where


def _rank(error: ErrorDetails, steps: tuple[Step, ...]) -> tuple[int, bool, bool]:
    return len(steps), error["type"] == UNSUPPORTED_FIELD, not error["type"].endswith("_type")


def _through(body: object, loc: Sequence[Step], *, is_missing: bool) -> tuple[Step, ...]:
    """``loc`` without the steps that are no place in ``body``.

    The last step is a place too if that can be: a branch may be called what a field beside it is called.
    """
    return _to_the_last(body, loc, is_missing) or _as_far_as_it_goes(body, loc)


def _to_the_last(at: object, loc: Sequence[Step], is_missing: bool) -> tuple[Step, ...] | None:
    if not loc:
        return ()
    if len(loc) == 1 and is_missing:
        return tuple(loc)
    step, *rest = loc
    here = _at(at, step)
    if here is not _NOWHERE and (found := _to_the_last(here, rest, is_missing)) is not None:
        return (step, *found)
    return _to_the_last(at, rest, is_missing) if rest else None


def _as_far_as_it_goes(at: object, loc: Sequence[Step]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for step in loc:
        if (here := _at(at, step)) is not _NOWHERE:
            at = here
            steps.append(step)
    return tuple(steps)


def remove(body: object, steps: Sequence[Step]) -> None:
    """Take what is at ``steps`` out of the object that holds it."""
    for step in steps[:-1]:
        body = _at(body, step)
    if isinstance(body, dict):
        body.pop(steps[-1], None)


def _at(value: object, step: Step) -> object:
    if isinstance(value, dict):
        return value.get(step, _NOWHERE)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOWHERE
