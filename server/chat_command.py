"""``nibble chat``: talks with a model in the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import ConfigFile, DataDir, ModelsDir, fail, say, settings_from

if TYPE_CHECKING:
    from server.chat.chat_client import ChatClient
    from server.local_access import LocalServer
    from server.settings import Settings

_INTERRUPTED = 130


def install(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(chat)


def chat(
    model: Annotated[
        str | None, typer.Argument(help="Id or alias [default: one that is loaded].", metavar="MODEL")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the server [default: the one that runs over the data directory, else that of the"
            " settings].",
            show_default=False,
        ),
    ] = None,
    system: Annotated[str, typer.Option(help="The system message.", show_default=False)] = "",
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Talk with a model. Starts a server of its own where none runs; NIBBLE_API_KEY is sent to one that does.

    Input that is piped in is taken line by line: each line is a message, or a /command.
    """
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from server.chat.chat_client import ChatClient, ChatError
    from server.chat.chat_session import ChatSession
    from server.chat.chat_terminal import ChatTerminal
    from server.chat.own_server import OwnServer
    from server.health_check import check_health, url_for

    try:
        with contextlib.ExitStack() as stack:
            key = os.environ.get("NIBBLE_API_KEY")
            running = None if url else _running(settings)
            address = url or (running.url if running else url_for(settings.host, settings.port))
            is_there, line = check_health(address, ready=False, timeout_s=5.0)
            if not is_there and url is not None:
                fail(f"{line}: start 'nibble serve' there, or leave out --url")
            if running is not None:
                if not is_there:
                    fail(
                        f"{line}: the server over {settings.data_dir} is busy or stuck; try again, or restart it"
                    )
                key = key or running.key
            if is_there and models_dir is not None:
                print(
                    f"nibble: a server runs at {address}: --models-dir is for one that is started",
                    file=sys.stderr,
                )
            if not is_there:
                given = {
                    "--preload": model,
                    "--models-dir": models_dir,
                    "--data-dir": data_dir,
                    "--config": config,
                }
                arguments = [part for name, value in given.items() if value for part in (name, str(value))]
                say("no server runs; starting one for this conversation ...")
                own = stack.enter_context(OwnServer(arguments))
                address, key = own.url, own.key
            client = stack.enter_context(ChatClient(address, key))
            session = ChatSession(client, model or _choose(client), system)
            status = ChatTerminal(session, client).run()
    except ChatError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(status)


def _running(settings: Settings) -> LocalServer | None:
    """The server that has told that it runs over the data directory, whatever its port.

    One that another conversation has started is none: it ends with that.
    """
    from server.admin_client import AdminError, chosen_server
    from server.local_access import local_servers

    servers = []
    # Of another user's, nothing can be read; that may still answer at the address of the settings.
    with contextlib.suppress(PermissionError):
        servers = [server for server in local_servers(settings.data_dir) if not server.is_of_conversation]
    try:
        return chosen_server(servers, settings)
    except AdminError as error:
        fail(str(error))


def _choose(client: ChatClient) -> str:
    """A model that chats: one that is loaded, else the first that may be. Raises ChatError."""
    from server.chat.chat_client import ChatError

    models = [
        model
        for model in client.models()
        if model.state != "failed" and (model.capabilities is None or "chat" in model.capabilities)
    ]
    if not models:
        raise ChatError("the server has no model that chats: 'nibble catalog' lists some")
    return min(models, key=lambda model: model.state != "ready").id
