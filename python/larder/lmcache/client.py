"""The asyncio client over larder's own connector."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from larder._spec import SpecLike
from larder.lmcache.client_base import ConnectorClientBase
from larder.lmcache.connector import Connector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ConnectorClient"]


class ConnectorClient(ConnectorClientBase[Connector]):
    """The asyncio client over larder: `client = ConnectorClient("log:/data/kv?capacity=500GiB")`.

    Takes a `Connector`, or what one is made of: its url and parameters. Opening may take seconds;
    `await ConnectorClient.open(...)` spends them in a thread.
    """

    def __init__(
        self,
        connector: Connector | SpecLike | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        **parameters: Any,
    ) -> None:
        if not isinstance(connector, Connector):
            connector = Connector(connector, **parameters)
        super().__init__(connector, loop)

    @classmethod
    async def open(cls, url: SpecLike | None = None, **parameters: Any) -> Self:
        loop = asyncio.get_running_loop()
        connector = await loop.run_in_executor(None, lambda: Connector(url, **parameters))
        return cls(connector, loop)

    def _close_native(self) -> None:
        self._client.close(0.0)  # Nobody waits any more for what is under way.
