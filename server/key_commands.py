"""``nibble key``: make, list and revoke API keys, while the server runs or before."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from server.command_line import ConfigFile, DataDir, fail, print_rows, say, settings_from

if TYPE_CHECKING:
    from server.keys.api_key import KeyLimits
    from server.keys.key_store import KeyStore, StoredKey

key_app = typer.Typer(
    help="Make, list and revoke API keys. A running server follows within a second.", no_args_is_help=True
)

_Result = TypeVar("_Result")


def _with_store(data_dir: Path | None, config: Path | None, act: Callable[[KeyStore], _Result]) -> _Result:
    from server.keys.key_store import KeyStore, KeyStoreError

    try:
        return act(KeyStore(settings_from(config, data_dir=data_dir).data_dir))
    except KeyStoreError as error:
        fail(str(error))


@key_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is; usage is counted by it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="inference or admin; may be repeated [default: inference].", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model that it may use; may be repeated [default: all].", show_default=False),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Those that begin in a minute [default: no limit].", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(help="Of prompts and answers together [default: no limit].", show_default=False),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(help="Requests running at the same time [default: no limit].", show_default=False),
    ] = None,
    queued: Annotated[
        int | None,
        typer.Option(
            help="Requests that may wait for one of those to end [default: none].", show_default=False
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Whose requests come first where many wait: a lower number, from -100 to 100 [default: 0].",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a key. It is printed once, and kept only as a hash."""
    from routes.caller import SCOPES
    from server.keys.api_key import NAME, KeyLimits

    if not NAME.fullmatch(name):
        fail(f"'{name}' is no name for a key: letters, digits, '.', '_', '@' and '-' make one, 64 at most")
    if unknown := [given for given in scope or () if given not in SCOPES]:
        fail(f"'{unknown[0]}' is no scope: use {' or '.join(SCOPES)}")
    scopes = frozenset(known for known in SCOPES if known in (scope or ["inference"]))
    limits = KeyLimits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrent=concurrent,
        queued=queued,
        priority=priority,
    )
    if problem := limits.problem():
        fail(problem)
    models = frozenset(model) if model else None
    secret = _with_store(
        data_dir, config, lambda store: store.create(name, scopes=scopes, models=models, limits=limits)
    )
    print(secret)
    print(f"This is the key of {name}. It is not kept, and cannot be shown again.", file=sys.stderr)


@key_app.command("list")
def list_keys(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that were revoked.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """List the keys, without what they open."""
    stored = _with_store(data_dir, config, lambda store: store.stored())
    lines = [_line(item) for item in stored if revoked or item.revoked_s is None]
    if not lines:
        say("there are no API keys")
        return
    print_rows(lines)


@key_app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Name of the key, or its first characters as listed.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """End a key. A running server refuses it within a second."""

    def end(store: KeyStore) -> tuple[StoredKey, bool]:
        ended = store.revoke(key)
        return ended, any(item.revoked_s is None for item in store.stored())

    ended, is_one_left = _with_store(data_dir, config, end)
    print(f"revoked {ended.key.name} ({ended.key.prefix}...)")
    if not is_one_left:
        print(
            "nibble: no key is left here; without one every request is refused, unless the server is started"
            " with --insecure-no-auth",
            file=sys.stderr,
        )


def _line(item: StoredKey) -> tuple[str, ...]:
    key = item.key
    made = datetime.datetime.fromtimestamp(item.created_s, datetime.UTC).date().isoformat()
    return (
        key.name,
        f"{key.prefix}...",
        made,
        "+".join(sorted(key.scopes)),
        "all models" if key.models is None else ",".join(sorted(key.models)),
        _limits(key.limits),
        "" if item.revoked_s is None else "revoked",
    )


def _limits(limits: KeyLimits) -> str:
    told = ((name, getattr(limits, name)) for name in limits.__struct_fields__)
    return " ".join(f"{name}={value}" for name, value in told if value is not None) or "no limits"
