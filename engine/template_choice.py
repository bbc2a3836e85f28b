"""Chat templates by name, for models whose file has none or a wrong one; and a user's own by its path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_SUFFIX = ".jinja"
_MAX_BYTES = 1_000_000


def template_names() -> list[str]:
    """The families whose template is built in."""
    files = resources.files("engine.templates").iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def read_template(choice: str) -> str:
    """The template that ``choice`` names: a family, or else a file. Raises ValueError with the mend."""
    if choice in template_names():
        return (resources.files("engine.templates") / f"{choice}{_SUFFIX}").read_text(encoding="utf-8")
    try:
        raw = Path(choice).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError):
        names = ", ".join(template_names())
        raise ValueError(
            f"the chat template {choice!r} is neither a file that can be read nor one of {names}"
        ) from None
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"the chat template {choice!r} has {len(raw)} bytes; {_MAX_BYTES} are the most")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the chat template {choice!r} is not in UTF-8") from None
