"""A folder that holds a network: a document that says what it is, and its own weights. Both are read as untrusted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from explorer.errors import ExplorerError, ModelError, brief
from explorer.files import write_whole

MAX_BYTES = 1_000_000
"""Of a document."""
Read = TypeVar("Read")


@dataclass(frozen=True)
class NetworkFolder:
    """The files of one kind of network.

    Attributes:
        what: The kind, as messages name it.
        document: Name of the document.
        weights: Name of the weights.
        format: What the document says it is.
        schema: Of the document.
        command: That makes such folders.
        method: That saves one.
    """

    what: str
    document: str
    weights: str
    format: str
    schema: int
    command: str
    method: str

    def write(self, folder: Path, tensors: Mapping[str, torch.Tensor], document: Mapping[str, Any]) -> Path:
        """Write both files, each there in full or not at all; the weights, in half precision, first, as the document
        names them. Raises ModelError for a folder that cannot be written."""
        half = {name: tensor.detach().cpu().half().contiguous().clone() for name, tensor in tensors.items()}
        with writing(folder, f"the {self.what}"):
            folder.mkdir(parents=True, exist_ok=True)
            if half:
                write_whole(folder / self.weights, save(half))
            else:
                (folder / self.weights).unlink(missing_ok=True)
            said = {"format": self.format, "schema": self.schema, **document}
            write_whole(folder / self.document, json.dumps(said, indent=1).encode())
        return folder

    def read(self, folder: Path, parse: Callable[[Any], Read]) -> Read:
        """What `parse` makes of the document.

        Raises:
            ModelError: For a folder without a document, one that is of another kind or version, and what `parse`
                refuses or cannot read.
        """
        path, what = folder / self.document, self.what
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ModelError(f"{path} has over {MAX_BYTES:,} bytes, which no {what} has; give a {what}'s folder.")
            data = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ModelError(
                f"the folder {str(folder)!r} holds no {what} (no {self.document}); give one that `{self.command}` or "
                f"{self.method} wrote."
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read ({brief(error)}); save the {what} again.") from error
        try:
            self._check(data)
            return parse(data)
        except ModelError as error:
            raise ModelError(f"{path}: {brief(error)}") from error
        except (ExplorerError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} is no {what} ({brief(repr(error))}); save the {what} again.") from error

    def _check(self, data: Any) -> None:
        if data["format"] != self.format:
            raise ModelError(f"this is no {self.what}'s document; give a folder that {self.method} wrote.")
        if data["schema"] != self.schema:
            raise ModelError(
                f"its schema is {data['schema']!r:.20}, and this version reads {self.schema}; upgrade the explorer."
            )


@contextlib.contextmanager
def writing(folder: Path, what: str = "the student") -> Iterator[None]:
    """Turn the OSError of a folder that cannot be written into a ModelError about `what`."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{what} cannot be written to {str(folder)!r}: {error.strerror or error}; choose another folder."
        ) from error


def read_tensors(path: Path, count: int) -> dict[str, torch.Tensor]:
    """The tensors of an untrusted file: `count` of them, of finite numbers. Raises ModelError."""
    if not count:
        return {}
    try:
        with safe_open(path, "pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.name} cannot be read ({brief(error)}); save it again.") from error
    if len(found) != count or not all(tensor.is_floating_point() for tensor in found.values()):
        raise ModelError(f"{path.name} has {len(found)} tensors where {count} were saved; save it again.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise ModelError(f"{path.name} holds numbers that are not finite; train it again.")
    return found
