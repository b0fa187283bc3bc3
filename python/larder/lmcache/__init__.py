"""The doors for LMCache. docs/lmcache.md tells sizing, migration and what the metrics mean.

LMCache itself is not imported.
"""

from larder.lmcache.client import ConnectorClient
from larder.lmcache.client_base import ConnectorClientBase
from larder.lmcache.connector import Connector

__all__ = ["Connector", "ConnectorClient", "ConnectorClientBase"]
