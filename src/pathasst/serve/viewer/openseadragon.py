"""OpenSeadragon (BSD-3-Clause), which shows the tiles: fetched once from the npm registry, checked, kept in the cache.

Nothing of it is in this repository; the browser gets it from our server.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from shutil import which

from pathasst.core import weights
from pathasst.core.errors import BadInput, MissingPackage, Unreachable
from pathasst.core.files import sha256_of, write_atomic

VERSION = "6.1.1"
SHA256 = "b4ab2942f33b90e0448e4d20fc5ed14cee049f1f3ae49d70afd4b05e9a2f92d0"
URL = f"https://registry.npmjs.org/openseadragon/-/openseadragon-{VERSION}.tgz"
FOLDER, SCRIPT = "package/build/openseadragon/", "openseadragon.min.js"


def folder() -> Path:
    """The folder with `openseadragon.min.js` and `images/`. Raises MissingPackage with the command that fetches it."""
    place = _place()
    if not (place / SCRIPT).is_file():
        raise MissingPackage("the slide viewer needs OpenSeadragon (1 MB), which is not here: pathasst slide parts")
    return place


def fetch(archive: Path | None = None) -> Path:
    """Fetch OpenSeadragon, or take it from an npm archive that is here; the folder. Raises Unreachable, BadInput."""
    place = _place()
    if (place / SCRIPT).is_file():
        return place
    with tempfile.TemporaryDirectory() as temporary:
        file = archive or _download(Path(temporary))
        if sha256_of(file) != SHA256:
            raise BadInput(f"{file.name} is not OpenSeadragon {VERSION} as it was published: its sha256 differs.")
        with tarfile.open(fileobj=io.BytesIO(file.read_bytes()), mode="r:gz") as content:
            members = [m for m in content.getmembers() if m.isfile() and (m.name.startswith(FOLDER) or "LICENSE" in m.name)]
            for member in sorted(
                members, key=lambda m: m.name.endswith(SCRIPT)
            ):  # the script last: it is the sign of a whole folder
                name, source = member.name.removeprefix(FOLDER).removeprefix("package/"), content.extractfile(member)
                if source is None or name.endswith(".map") or ".." in name:
                    continue
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(place / name, source.read())
    return place


def _place() -> Path:
    return Path(os.environ.get("PATHASST_OPENSEADRAGON") or weights.cache_dir() / "web" / f"openseadragon-{VERSION}")


def _download(temporary: Path) -> Path:
    """By npm where it is installed, since it knows the machine's registry and proxy; else by HTTPS."""
    file = temporary / f"openseadragon-{VERSION}.tgz"
    if npm := which("npm"):
        words = [npm, "pack", f"openseadragon@{VERSION}", "--silent"]
        process = subprocess.run(words, cwd=temporary, capture_output=True, text=True, timeout=300, check=False)
        if process.returncode == 0 and file.is_file():
            return file
    import httpx

    try:
        answer = httpx.get(URL, follow_redirects=True, timeout=60)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Unreachable(f"{URL} cannot be fetched: {error}. Fetch it elsewhere, then: pathasst slide parts FILE.tgz") from error
    file.write_bytes(answer.content)
    return file
