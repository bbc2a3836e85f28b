"""OpenAI's ``reasoning_effort`` in the words of a chat template: the same variable, or a switch for thinking."""

from __future__ import annotations

from collections.abc import Collection

from engine.errors import InvalidRequest

PARAM = "reasoning_effort"
_SWITCHES = ("enable_thinking", "thinking")
_GRADES = ("low", "medium", "high")
"""What models are trained on that have grades, gpt-oss first."""
_SWITCHED = {"none": False, "medium": True}
"""A switch knows no more or less: off is none, and on is what OpenAI calls the usual effort."""


def effort_variables(
    effort: str, reads: Collection[str], words: Collection[str] = ()
) -> dict[str, bool | int | str]:
    """What to tell a template that reads the variables ``reads``, and has ``words`` for efforts of its own.

    Raises InvalidRequest where it cannot be told.
    """
    switches = [name for name in _SWITCHES if name in reads]
    if PARAM in reads:
        if effort == "none" and switches:
            return {PARAM: effort, **dict.fromkeys(switches, False)}
        if effort not in _GRADES and effort not in words:
            raise InvalidRequest(
                f"'{PARAM}': this model knows low, medium and high, not '{effort}'.", param=PARAM
            )
        return {PARAM: effort}
    if not switches:
        raise InvalidRequest(f"'{PARAM}': this model's chat template has no say in thinking.", param=PARAM)
    if effort not in _SWITCHED:
        raise InvalidRequest(
            f"'{PARAM}': this model can think ('medium') or not ('none'), and nothing in between.",
            param=PARAM,
        )
    return dict.fromkeys(switches, _SWITCHED[effort])
