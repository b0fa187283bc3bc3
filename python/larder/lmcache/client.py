"""The asyncio client over larder's own connector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from larder import _store, aio
from larder._spec import SpecLike
from larder._store import Key
from larder.lmcache.client_base import ConnectorClientBase
from larder.lmcache.connector import Connector, refuse_storage_plugin

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ConnectorClient"]


class ConnectorClient(ConnectorClientBase[Connector]):
    """The asyncio client over larder: `client = ConnectorClient("log:/data/kv?capacity=500GiB")`.

    Takes a `Connector`, or a connector's url and parameters. Opening may take seconds; `await
    ConnectorClient.open(...)` spends them in a thread.
    """

    def __init__(
        self,
        connector: Connector | SpecLike | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        **parameters: Any,
    ) -> None:
        refuse_storage_plugin("ConnectorClient", parameters)
        if not isinstance(connector, Connector):
            connector = Connector(connector, **parameters)
        super().__init__(connector, loop)

    @classmethod
    async def open(cls, url: SpecLike | None = None, **parameters: Any) -> Self:
        loop = asyncio.get_running_loop()
        connector = await loop.run_in_executor(None, lambda: Connector(url, **parameters))
        return cls(connector, loop)

    async def delete(self, keys: Sequence[str]) -> list[bool]:
        """Removes each key; whether it was there. A key that could not be removed is one that was
        not."""
        found: list[bool] = await self._start_delete(keys, self.loop.create_future())
        return found

    async def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Bytes of each key's value; None for a key without."""
        found: list[int | None] = await self._start_sizes(keys, self.loop.create_future())
        return found

    async def scan(self, prefix: Key = b"") -> AsyncIterator[tuple[bytes, int]]:
        """Like `larder.aio.Store.scan()`: every key that begins with `prefix`, with its value's
        size."""
        async for entry in aio.scan(self._client, prefix):
            yield entry

    async def delete_prefix(self, prefix: Key, *, timeout: float | None = 30.0) -> int:
        """As `larder.aio.Store.delete_prefix()`."""
        return await aio.delete_prefix_in_thread(self._client, prefix, timeout)

    def delete_sync(self, keys: Sequence[str]) -> list[bool]:
        found: list[bool] = self._wait(self._start_delete(keys, self._sync_future()))
        return found

    def sizes_sync(self, keys: Sequence[str]) -> list[int | None]:
        found: list[int | None] = self._wait(self._start_sizes(keys, self._sync_future()))
        return found

    def scan_sync(self, prefix: Key = b"") -> Iterator[tuple[bytes, int]]:
        return _store.scan(self._client, prefix)

    def delete_prefix_sync(self, prefix: Key, *, timeout: float | None = 30.0) -> int:
        return _store.delete_prefix(self._client, prefix, timeout)

    def _start_delete(self, keys: Sequence[str], future: Any) -> Any:
        return self._start(self._native.submit_batch_delete, _results_of, future, keys)

    def _start_sizes(self, keys: Sequence[str], future: Any) -> Any:
        return self._start(self._native.submit_batch_sizes, _results_of, future, keys)

    def _close_native(self) -> None:
        self._client.close(0.0)  # The callers of the pending operations are gone.


def _results_of(results: list[Any] | None, keys: int) -> list[Any]:
    return results or []
