"""Stores that tests break."""

import urllib.parse

GRAIN = 4096  # Of a log: one for a segment's header, and one for each record's.


def fault_of(url, **parameters):
    """The URL of a `fault:` store around another one."""
    return "fault:?" + urllib.parse.urlencode({"inner": url, **parameters})


def flip_one_byte_of_a_value(directory):
    """Turns a bit over in the middle of the value of a log's first record."""
    segment = min(path for path in directory.iterdir() if path.name.startswith("segment"))
    offset = 2 * GRAIN + 100_000
    with open(segment, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
