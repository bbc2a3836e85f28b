"""SIGHUP: ``nibble.toml`` is read again, and what can change while requests run does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from engine.errors import NibbleError
from server.app import App
from server.log import configure_log
from server.service_manager import notify
from server.settings import Settings, SettingsError

AT_ONCE: Final = frozenset(
    {
        *(
            "strict",
            "request_timeout_s",
            "max_body_bytes",
            "header_timeout_s",
            "body_timeout_s",
            "send_timeout_s",
        ),
        *("max_header_bytes", "ping_s", "drain_s", "memory_budget", "keep_alive_s", "allowed_hosts"),
        *(
            "allowed_origins",
            "api_key_file",
            "insecure_no_auth",
            "log_format",
            "log_level",
            "queue_timeout_s",
        ),
    }
)
"""For requests that begin after it; those that run go on as they began."""
AT_THE_NEXT_LOAD: Final = frozenset(
    {
        *(
            "embed",
            "matryoshka",
            "models",
            "context",
            "parallel",
            "threads",
            "gpu_layers",
            "kv_budget",
            "kv_layout",
        ),
        *("cache_type", "flash_attention", "prefix_memory", "prefix_disk", "step_target_ms", "speculation"),
        *("draft_model", "chat_template", "reasoning_format", "tool_format", "queue_limit", "stall_limit_s"),
        *("queue_tokens", "key_queue_limit", "key_queue_tokens", "confine_workers", "load_timeout_s"),
    }
)
"""For models that are loaded after it. Of ``models``, ``pin``, ``keep_alive_s`` and the sampling count at once."""
AFTER_A_RESTART: Final = frozenset(
    {
        *("host", "port", "models_dir", "data_dir", "preload", "adapters", "vllm_metrics", "traces"),
        "log_prompts",
    }
)
"""Named in the log, and otherwise as if they had not changed."""


class Process(Protocol):
    """``server.process.ServerProcess``."""

    drain_s: float


class Reloader:
    """Owned by the event loop. All of a file counts, or nothing of it."""

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        app: App,
        process: Process,
        set_receipt_limits: Callable[[Settings], None],
    ) -> None:
        """``reread`` reads every source anew, as at the start. It blocks, and raises SettingsError."""
        self.is_announced = False
        """Whether the service manager knows that the server is ready; before, it is told of no reload."""
        self._settings = settings
        self._reread = reread
        self._app = app
        self._process = process
        self._set_receipt_limits = set_receipt_limits
        self._one_at_a_time = asyncio.Lock()
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def reload(self) -> None:
        """Read, check, and only then change. A file that is wrong changes nothing, and the log says why."""
        async with self._one_at_a_time:
            if self.is_announced:
                notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await self._reload()
            except (SettingsError, NibbleError) as error:
                self._log.error("not reloaded, and nothing has changed", reason=str(error))
            except Exception:
                self._log.exception("not reloaded, and nothing has changed")
            finally:
                if self.is_announced:
                    notify("READY=1")

    async def _reload(self) -> None:
        read = await asyncio.to_thread(self._reread)
        changed = {
            name for name in Settings.model_fields if getattr(read, name) != getattr(self._settings, name)
        }
        fixed = {name: getattr(self._settings, name) for name in AFTER_A_RESTART}
        settings = read.model_copy(update=fixed)
        change = await asyncio.to_thread(self._app.prepare, settings)
        # From here until all counts nothing is waited for and nothing fails, so no request meets half of it.
        change()
        self._set_receipt_limits(settings)
        self._process.drain_s = settings.drain_s
        if changed & {"log_format", "log_level"}:
            configure_log(settings.log_format, settings.log_level)
        self._settings = settings
        # What the new tables name, and what they misspell, is found and told now.
        await self._app.registry.look()
        self._log.info("reloaded", changed=_listed(changed & AT_ONCE))
        if late := changed & AT_THE_NEXT_LOAD:
            self._log.info("counts for models that are loaded from now on", settings=_listed(late))
        if held := changed & AFTER_A_RESTART:
            self._log.warning("needs a restart", settings=_listed(held))


def _listed(names: Iterable[str]) -> list[str]:
    return sorted(names)
