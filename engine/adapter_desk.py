"""Adapters that come and go while a model runs, as the worker's receiving thread takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.adapter import Adapter
from engine.adapter_catalog import AdapterCatalog, check_adapter
from engine.adapter_rack import AdapterOrder
from engine.disk.model_key import file_key
from engine.errors import ModelLoadFailed


class AdapterDesk:
    """Used by the receiving thread alone.

    It waits for the engine thread, between two steps of which an adapter is loaded: so whatever request comes
    behind an adapter finds it, or finds it gone.
    """

    def __init__(self, catalog: AdapterCatalog, order: Callable[[AdapterOrder], None]) -> None:
        self._catalog = catalog
        self._order = order

    def load(self, adapter: Adapter) -> None:
        """Let requests name ``adapter``, in place of one of that name. Raises ModelLoadFailed, and changes nothing."""
        check_adapter(adapter)
        try:
            key = file_key(Path(adapter.path))
        except OSError as error:
            name = Path(adapter.path).name
            raise ModelLoadFailed(
                f"{name} cannot be read ({error.strerror}): see that it is there"
            ) from error
        order = AdapterOrder(self._catalog.new_place(), adapter)
        self._order(order)
        order.done.result()
        self._let_go(self._catalog.put(order.place, adapter, key))

    def drop(self, name: str) -> None:
        """Let no new request name it. Those that run with it go on. Harmless where there is none."""
        self._let_go(self._catalog.remove(name))

    def _let_go(self, place: int | None) -> None:
        if place is not None:
            self._order(AdapterOrder(place))
