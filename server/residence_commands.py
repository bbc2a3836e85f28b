"""``nibble load``, ``unload`` and ``ps``: which models a running server has in memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import AsJson, ConfigFile, DataDir, fail, print_json, say, settings_from
from server.model_commands import ModelName

if TYPE_CHECKING:
    from pathlib import Path

    from model_registry.model_detail import ModelDetail
    from server.admin_client import AdminClient

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the server [default: the one that runs with these settings]. One that is not yours, or"
        " runs elsewhere, wants its admin's key in NIBBLE_ADMIN_KEY.",
        show_default=False,
    ),
]
_NOTHING = "-"


def install(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(load)
    app.command()(unload)
    app.command()(ps)


def load(
    name: ModelName,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Have a running server load a model, and wait for it. Ctrl-C ends the waiting; the load goes on."""
    with connected(data_dir, config, url) as server:
        detail = _changed(server, "load", {"model": name}, f"loading {name}")
    _told(
        detail,
        as_json,
        f"{detail.id} is loaded, in {detail.load_s or 0:.1f} s: {_memory(detail)}, {_cache(detail)}",
    )


def unload(
    name: ModelName,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait while requests hold it.", min=0, max=3600)
    ] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="End the requests that hold it.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Have a running server unload a model, pinned or not. The next request for it loads it again."""
    with connected(data_dir, config, url) as server:
        body: dict[str, object] = {"model": name, "wait_s": wait, "force": force}
        detail = _changed(server, "unload", body, f"unloading {name}")
    _told(detail, as_json, f"{detail.id} is not loaded")


def ps(
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show which models a running server has in memory, how much they take, and who uses them."""
    from model_registry.model_detail import ModelDetail
    from routes.listing import Listing

    with connected(data_dir, config, url) as server:
        details = [
            detail for detail in server.get("/admin/v1/models", Listing[ModelDetail]).data if detail.use
        ]
    if as_json:
        print_json(details)
        return
    if not details:
        say("no model is loaded")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (
        "MODEL",
        "STATE",
        "MEMORY (ESTIMATED)",
        "REQUESTS",
        "IDLE",
        "UNLOADED IN",
        "KV CACHE",
        "SPEED",
    ):
        table.add_column(heading, overflow="fold")
    for detail in details:
        table.add_row(*_row(detail))
    Console().print(table)
    for detail in details:
        if detail.warning:
            say(detail.warning)
        if detail.is_outdated:
            say(f"{detail.id} has other settings now, which count from its next load")


@contextmanager
def connected(data_dir: Path | None, config: Path | None, url: str | None) -> Generator[AdminClient]:
    """The running server. Ends the command, with one line, where it cannot be asked or refuses."""
    settings = settings_from(config, data_dir=data_dir)
    from server.admin_client import AdminError, admin_client

    try:
        with admin_client(settings, url) as server:
            yield server
    except AdminError as error:
        fail(str(error))


def _changed(server: AdminClient, what: str, body: dict[str, object], saying: str) -> ModelDetail:
    from rich.console import Console

    from model_registry.model_detail import ModelDetail

    with Console(stderr=True).status(f"{saying} ..."):
        return server.post(f"/admin/v1/models/{what}", body, ModelDetail)


def _told(detail: ModelDetail, as_json: bool, line: str) -> None:
    if as_json:
        print_json(detail)
    else:
        print(line)
    if detail.warning:
        say(detail.warning)


def _row(detail: ModelDetail) -> tuple[str, ...]:
    use = detail.use
    assert use is not None
    held = f"{use.leases}" + (f" + {use.waiting} waiting" if use.waiting else "")
    left = "pinned" if detail.is_pinned else _seconds(use.keep_alive_left_s)
    speed = f"{use.tokens_per_s:,.0f} tokens/s" if use.tokens_per_s else _NOTHING
    return (
        detail.id,
        detail.state,
        _memory(detail),
        held,
        _seconds(use.idle_s),
        left,
        _cache(detail),
        speed,
    )


def _memory(detail: ModelDetail) -> str:
    estimated = f"({detail.memory.estimated_bytes / 1e6:,.0f})"
    measured = detail.memory.resident_bytes
    return f"{_NOTHING if measured is None else f'{measured / 1e6:,.0f}'} MB {estimated}"


def _cache(detail: ModelDetail) -> str:
    facts = detail.facts
    if facts is None:
        return _NOTHING
    return f"{facts.kv_layout}, {facts.parallel} x {facts.context:,} tokens, {facts.kv_bytes / 1e6:,.0f} MB"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
