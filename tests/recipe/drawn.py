"""A handful of pictures drawn here, laid out as the packages are, so that every stage runs without a network."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

from recipe.data.concepts import CORE
from recipe.data.fetch import PACKAGES, archive_name

LISTED = CORE[:10]
OTHERS = ["abacus", "amphora", "canoe", "compass", "elevator", "falafel", "goggles", "hamsa", "oyster", "razor"]


def draw(seed: int, side: int) -> Image.Image:
    """A few shapes on a transparent ground."""
    chance = random.Random(seed)
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, w, h = (chance.randrange(side // 2) for _ in range(4))
        colour = (*(chance.randrange(256) for _ in range(3)), 255)
        chance.choice([pen.ellipse, pen.rectangle])((x, y, x + w + 8, y + h + 8), fill=colour)
    return image


def encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def write_archives(work: Path) -> None:
    """The three packages as `npm pack` would leave them in `work/npm`."""
    keys = LISTED + OTHERS
    entries = [
        {
            "short_name": key,
            "name": key.upper().replace("_", " "),
            "unified": f"1F6{i:02X}",
            "image": f"1f6{i:02x}.png",
            "category": "Objects",
            "subcategory": "tool",
            "sort_order": i,
        }
        for i, key in enumerate(keys)
    ]
    (work / "npm").mkdir(parents=True)
    for s, (source, package) in enumerate(PACKAGES.items()):
        files = {"package/README.md": b"not needed"}
        for i, entry in enumerate(entries):
            if source == "fluent":
                name = str(entry["image"]).replace(".png", ".webp")
                files[f"package/assets/{name}"] = encoded(draw(100 * s + i, 256), "WEBP")
            else:
                files[f"package/img/{source}/64/{entry['image']}"] = encoded(draw(100 * s + i, 64), "PNG")
        if source == "google":
            files["package/emoji.json"] = json.dumps(entries).encode()
        with tarfile.open(work / "npm" / archive_name(package), "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
