"""Stage `fetch`: the picture packages from the npm registry, by name and version, through the npm client."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from explorer.errors import TrainingError, brief

PACKAGES: dict[str, str] = {
    "google": "emoji-datasource-google@16.0.0",
    "twitter": "emoji-datasource-twitter@16.0.0",
    "fluent": "@lobehub/fluent-emoji-3d@1.1.0",
}


def archive_name(package: str) -> str:
    """The file name `npm pack` gives: scope and name joined by a dash, then the version."""
    name, version = package.rsplit("@", 1)
    return f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"


def wanted(source: str, member: str) -> str | None:
    """The path under the source's folder that an archive member is unpacked to; None for what is not needed."""
    parts = member.split("/")
    if source == "fluent":
        if len(parts) == 3 and parts[1] == "assets" and parts[2].endswith(".webp"):
            return parts[2]
    elif len(parts) == 5 and parts[3] == "64" and parts[4].endswith(".png"):
        return parts[4]
    elif source == "google" and parts[1:] == ["emoji.json"]:
        return "emoji.json"
    return None


def unpack(archive: Path, source: str, target: Path) -> int:
    """Unpack what is needed of one package; the number of files. Only plain files are read, by name."""
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            name = wanted(source, member.name) if member.isfile() else None
            if name is None:
                continue
            stream = tar.extractfile(member)
            assert stream is not None
            (target / name).write_bytes(stream.read())
            count += 1
    return count


def fetch(work: Path) -> None:
    """Fetch every package that is not there yet into `work/npm` and unpack it into `work/pictures/<source>`.

    Raises:
        TrainingError: when npm is missing or cannot fetch, or an archive is damaged.
    """
    folder = work / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    for source, package in PACKAGES.items():
        archive = folder / archive_name(package)
        if not archive.exists():
            download(package, archive)
        try:
            count = unpack(archive, source, work / "pictures" / source)
        except (EOFError, tarfile.TarError, zlib.error) as error:
            raise TrainingError(f"{archive} is damaged ({error}); remove it and run `fetch` again.") from error
        print(f"{package}: {count} files", flush=True)


def download(package: str, archive: Path) -> None:
    """`npm pack`, beside the place of the archive, which is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as beside:
        try:
            command = ["npm", "pack", "--loglevel", "error", package]
            subprocess.run(command, cwd=beside, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise TrainingError("npm is not installed, which fetches the picture packages; install Node.js.") from error
        except subprocess.CalledProcessError as error:
            raise TrainingError(f"npm cannot fetch {package}: {brief(error.stderr)}") from error
        os.replace(Path(beside) / archive.name, archive)
