"""``nibble usage``: what the ledger says."""

from __future__ import annotations

from typing import Annotated

import typer

from server.command_line import AsJson, ConfigFile, DataDir, fail, say, settings_from


def usage(
    key: Annotated[str | None, typer.Option(help="Name of a key [default: all].", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help="Id of a model [default: all].", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="First day (UTC), as in 2026-01-31.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Last day (UTC), as in 2026-01-31.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Print requests and tokens by day, key and model; a running server writes them once a second."""
    import msgspec

    from engine.errors import InvalidRequest
    from routes.admin.usage import read_query
    from server.usage.usage_store import UsageStore, UsageStoreError

    given = {"key": key, "model": model, "since": since, "until": until}
    try:
        query = read_query({name: value for name, value in given.items() if value is not None})
        rows = UsageStore(settings_from(config, data_dir=data_dir).data_dir).read(query)
    except (InvalidRequest, UsageStoreError) as error:
        fail(str(error))
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    if not rows:
        say("nothing was used")
        return
    heads = ("day", "key", "model", "requests", "prompt", "cached", "completion")
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        counts = (row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens)
        lines.append((row.day, row.key or "(no key)", row.model, *(str(count) for count in counts)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, strict=True)
        print("  ".join(f"{c:<{w}}" if i < 3 else f"{c:>{w}}" for i, (c, w) in enumerate(cells)))
