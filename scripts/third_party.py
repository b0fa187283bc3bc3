#!/usr/bin/env python3
"""Lists the shared libraries that binaries link, directly and through others, with Debian's packages.

    scripts/third_party.py build/release/apps/larder/larder

One line each: library, package, version, and the licences that the package's copyright file names.
docs/third_party.md is what a person wrote of them; tests/deploy compares the two.
"""

import pathlib
import re
import subprocess
import sys


def linked(binary):
    """{file name: path} of everything that the loader maps for it."""
    text = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return {
        found[1]: pathlib.Path(found[2])
        for found in re.finditer(r"^\s*(\S+) => (/\S+)", text, re.MULTILINE)
    }


def package_of(path):
    """(package, version); nothing where no package of Debian's has the file."""
    for name in [path, path.resolve(), *([f"/usr{path}"] if path.is_absolute() else [])]:
        owner = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False)
        if owner.returncode == 0:
            package = owner.stdout.split(": ")[0].split(",")[0]
            shown = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", package],
                capture_output=True,
                text=True,
                check=True,
            )
            return package.split(":")[0], shown.stdout
    return None, None


def licences_of(package):
    """As the copyright file names them; older ones are prose and name none."""
    path = pathlib.Path(f"/usr/share/doc/{package}/copyright")
    if not path.exists():
        return []
    found = re.findall(
        r"^License: *(\S.*)$", path.read_text("utf-8", errors="replace"), re.MULTILINE
    )
    return sorted(set(found))


def main(binaries):
    if not binaries:
        sys.exit(__doc__)
    every = {name: path for binary in binaries for name, path in linked(binary).items()}
    for name, path in sorted(every.items()):
        package, version = package_of(path)
        licences = "; ".join(licences_of(package)) if package else ""
        print(
            "\t".join([name, package or "?", version or "?", licences or "see its copyright file"])
        )


if __name__ == "__main__":
    main(sys.argv[1:])
