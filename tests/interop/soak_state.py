"""What the driver of the soak tells its clients, in a file that all have mapped."""

import mmap
import pathlib
import struct


class State:
    """`server` is even while one server stands, and odd from before it is ended until the next one
    answers; `is_over` tells the clients to leave."""

    def __init__(self, path: pathlib.Path):
        if not path.exists():
            path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 16)

    @property
    def server(self) -> int:
        return struct.unpack_from("<Q", self.memory)[0]

    @server.setter
    def server(self, value: int) -> None:
        struct.pack_into("<Q", self.memory, 0, value)

    @property
    def is_over(self) -> bool:
        return self.memory[8] != 0

    def end(self) -> None:
        self.memory[8] = 1
