#!/usr/bin/env python3
"""Packs captures of LMCache's wire into what wire_golden_test reads.

    tests/golden/make_wire_golden.py CAPTURES OUTPUT.txt.zst NAME...

CAPTURES is a folder of JSON lines as a proxy between LMCache's clients and its server wrote them
(frames in hexadecimal). Of each NAME (a file's name, or its beginning) the frames are kept and
everything else is left out. Needs the program zstd.
"""

import json
import pathlib
import subprocess
import sys


def frames_of(path: pathlib.Path) -> list[str]:
    lines = [f"= {path.stem}"]
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["type"] != "frame":
            continue
        direction = ">" if record["dir"] == "c2s" else "<"
        frames = " ".join(frame or "-" for frame in record["frames"])
        lines.append(f"{direction} {record['conn']} {frames}")
    return lines


def main() -> None:
    captures, output, names = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    lines = []
    for name in names:
        (path,) = captures.glob(f"{name}*.jsonl")
        lines += frames_of(path)
    text = "".join(f"{line}\n" for line in lines).encode()
    # Its reader wants the length at the beginning.
    command = ["zstd", "-19", "-q", "-f", f"--stream-size={len(text)}", "-o", output]
    subprocess.run(command, input=text, check=True)


if __name__ == "__main__":
    main()
