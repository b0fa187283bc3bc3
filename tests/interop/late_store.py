"""A store whose loads take their time, whatever deadline they have: what a kernel that hangs is."""

import time

from larder.connectors import PythonConnector


class LateStore(PythonConnector):
    def __init__(self, seconds):
        self.seconds = float(seconds)
        self.values = {}

    def get_into(self, key, buffer):
        time.sleep(self.seconds)
        value = self.values.get(key)
        if value is not None and len(value) <= len(buffer):
            buffer[: len(value)] = value
        return None if value is None else len(value)

    def set(self, key, data):
        self.values[key] = bytes(data)

    def size(self, key):
        return len(self.values[key]) if key in self.values else None

    def delete(self, key):
        return self.values.pop(key, None) is not None

    def usage(self):
        return len(self.values), sum(map(len, self.values.values()))
