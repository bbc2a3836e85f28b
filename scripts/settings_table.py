"""Writes the table of settings in docs/configure.md, between its two markers. `make settings-table` calls this."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from server.reload import AT_ONCE, AT_THE_NEXT_LOAD
from server.settings import PREFIX, Settings

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configure.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def main() -> None:
    TARGET.write_text(updated(TARGET.read_text()))


def updated(text: str) -> str:
    """``text`` with the table as the settings are now."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{begin}{table()}{end}{tail}"


def table() -> str:
    lines = ["| key of nibble.toml | default | changes | what it does |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        text = re.sub(r" \[default: .*\]", "", field.description or "").replace("|", "\\|")
        default = _default(field.default, field.description or "")
        lines.append(f"| `{name}` | {default} | {_change(name)} | {text} |")
    lines.append("")
    lines.append(f"As a variable, `port` is `{PREFIX}PORT`; on the command line it is `--port`.")
    return "\n".join(lines) + "\n"


def _change(name: str) -> str:
    """When a running server goes by another value (SIGHUP)."""
    return "at once" if name in AT_ONCE else "next load" if name in AT_THE_NEXT_LOAD else "restart"


def _default(value: object, text: str) -> str:
    if told := re.search(r"\[default: (.*)\]", text):
        return told.group(1)
    if value is None or value is PydanticUndefined or value == () or value == {}:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    main()
