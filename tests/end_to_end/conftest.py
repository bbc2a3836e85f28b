from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from tests.end_to_end.admin import Admin
from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import PATIENCE_S


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The one server of the whole session, with the bundled model. Tests leave it as they found it."""
    home = tmp_path_factory.mktemp("home")
    with LiveServer(home, "--context", "2048", "--parallel", "8") as running:
        yield running.ready()


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    """OpenAI's client, as its documentation makes it but for retries, which would hide failures."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        timeout=PATIENCE_S,
        http_client=openai.DefaultHttpxClient(trust_env=False),
        _strict_response_validation=True,
    ) as made:
        yield made


@pytest.fixture
async def async_client(server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        timeout=PATIENCE_S,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        _strict_response_validation=True,
    ) as made:
        yield made


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    made = Admin(tmp_path_factory.mktemp("admin"))
    with made.server:
        made.server.ready()
        yield made
