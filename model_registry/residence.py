"""Who stays in memory: the time that each model has, whom a change sends away, and unloading by hand."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from engine.errors import ModelBusy
from model_registry.config import RegistryConfig
from model_registry.drain import Drain
from model_registry.eviction import EvictionReason
from model_registry.keep_alive import KeepAlive
from model_registry.model import Model
from model_registry.shelf import Shelf

_logger = logging.getLogger("nibble.registry")


class Residence:
    """Owned by the registry, and with it by the event loop."""

    def __init__(
        self,
        config: RegistryConfig,
        shelf: Shelf,
        drain: Drain,
        begin_unload: Callable[[Model], None],
        clock: Callable[[], float],
    ) -> None:
        """``begin_unload`` begins to end the engine of a model that is ready."""
        self._config = config
        self._shelf = shelf
        self._drain = drain
        self._begin_unload = begin_unload
        self._clock = clock
        self._keep_alive = KeepAlive(self._expire)
        self._retired: list[Model] = []
        """Off the shelf, and loaded still."""
        self.evictions: Counter[tuple[str, EvictionReason]] = Counter()
        """How often each model was unloaded without anybody's asking for it, and why."""

    def everywhere(self) -> list[Model]:
        """Models on the shelf, and those off it that are not gone yet."""
        return [*self._shelf, *self._retired]

    def may_go(self, model: Model) -> bool:
        return model.is_idle and (model.is_retired or not model.settings(self._config).pin)

    def evict(self, reason: EvictionReason, model: Model) -> None:
        """Begin to unload a model that nobody asked to unload."""
        self.evictions[model.id, reason] += 1
        self._unload(model)

    def use(self, model: Model) -> None:
        """A request holds ``model`` from now on."""
        self._keep_alive.end(model)

    def rest(self, model: Model) -> None:
        """Nobody may be using ``model`` any more: begin its time, or its end if it is retired."""
        model.rested.set()
        if not model.is_retired:
            if model.is_idle and not self._drain.is_begun:
                self._keep_alive.begin(model, model.idle_limit_s(self._config))
            return
        self._keep_alive.end(model)
        if model.is_idle:
            self.evict("replaced", model)
        if model.unload is not None:
            # Behind the loader's own callback, which settles the state.
            model.unload.add_done_callback(partial(self._forget, model))
        elif model.engine is None and model.load is None:
            self._forget(model)

    def retire(self, model: Model) -> None:
        """``model`` is off the shelf: it serves who holds it, and nobody else."""
        model.is_retired = True
        self._retired.append(model)
        self.rest(model)

    def left_s(self, model: Model) -> float | None:
        """Seconds until ``model`` is unloaded; None where no time of it runs."""
        return self._keep_alive.left_s(model)

    async def unload(self, model: Model, *, wait_s: float, force: bool) -> None:
        """Unload ``model``, pinned or not: see ``ModelRegistry.unload``. Raises ModelBusy and ModelUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            self._drain.check()
            model.notice_death(self._clock())
            if model.unload is not None:
                await asyncio.wait({model.unload})
            elif model.load is not None and (force or not model.waiting):
                model.load.cancel()
                await asyncio.wait({model.load})
            elif model.state == "ready" and (force or model.is_idle):
                _logger.info("unloading %s, as asked", model.id)
                self._unload(model)
                if model.unload is not None:
                    await asyncio.wait({model.unload})
                return
            elif model.state not in ("ready", "loading"):
                return
            elif (left_s := deadline - loop.time()) > 0:
                model.rested.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await model.rested.wait()
            else:
                raise ModelBusy(
                    f"{model.leases} requests hold '{model.id}' and {model.waiting} wait for it:"
                    " wait for them with 'wait_s', or end them with 'force'",
                    param="model",
                )

    def stop(self) -> None:
        """Begin to unload all that is loaded, whoever holds it."""
        for model in self.everywhere():
            if model.state == "ready" and model.engine is not None:
                self._unload(model)

    def stop_timers(self) -> None:
        self._keep_alive.stop()

    def reconfigure(self, config: RegistryConfig) -> None:
        """Go by ``config`` from now on; who has another time by it begins that anew."""
        before = [(model, self._keeping(model)) for model in self._shelf]
        self._config = config
        for model, keeping in before:
            if keeping != self._keeping(model):
                self.rest(model)

    def _keeping(self, model: Model) -> tuple[float | None, bool]:
        """Seconds without use after which it is unloaded, and whether it is pinned."""
        return model.idle_limit_s(self._config), bool(model.settings(self._config).pin)

    def _expire(self, model: Model) -> None:
        if self.may_go(model):
            self.evict("idle", model)

    def _unload(self, model: Model) -> None:
        self._keep_alive.end(model)
        self._begin_unload(model)

    def _forget(self, model: Model, _unload: asyncio.Task[None] | None = None) -> None:
        self._retired = [each for each in self._retired if each is not model]
