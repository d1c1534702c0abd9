"""What pictures are compared with: a folder of pictures, stored statistics, or the un-accelerated pipeline's own
pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer.bootstrap import interval
from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.models.pictures import find_pictures, read_batches
from explorer.quality import frechet, kid
from explorer.quality.features import Extractor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FORMAT = "inheritance-explorer statistics 1"
BASELINE = "un-accelerated"
KEPT = ("features", "mean", "cov")
Keep = Callable[[str, Callable[[], dict[str, "torch.Tensor"]]], dict[str, "torch.Tensor"]]
"""`keep(name, make)` gives the tensors under `name` that were kept earlier, by any process, or makes and keeps them."""
STATISTICS_FOLDER = Path(__file__).parent.parent / "embedded" / "statistics"
"""Statistics of the embedded model's data, one file an extractor."""


@dataclass(frozen=True)
class Reference:
    """Features of the pictures that a candidate's pictures are compared with.

    Attributes:
        name: Where they came from, such as a folder.
        extractor: The extractor's name.
        resizer: How pictures were brought to the extractor's size.
        features: (N, d).
        mean: (d,).
        cov: (d, d).
        paired: Whether row i belongs to the candidate's picture i: the un-accelerated pictures of the same prompts and
            seeds.
    """

    name: str
    extractor: str
    resizer: str
    features: Array
    mean: Array
    cov: Array
    paired: bool = False

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.features)

    @cached_property
    def kernel_term(self) -> Array:
        """The term of KID that depends on the reference alone, computed once for all candidates."""
        return kid.own_term(self.features, paired=self.paired)

    @classmethod
    def from_features(cls, name: str, extractor: Extractor, features: Array, paired: bool = False) -> Reference:
        """The reference of features (N, d), with their mean and covariance."""
        mean, cov = frechet.statistics(features)
        return cls(name, extractor.name, extractor.resizer, features, mean, cov, paired)

    @classmethod
    def from_pictures(cls, pictures: torch.Tensor, extractor: Extractor) -> Reference:
        """The reference of un-accelerated pictures, uint8 (N, 3, H, W), in the order of the prompts."""
        return cls.from_features(BASELINE, extractor, extractor(pictures).values, paired=True)

    @classmethod
    def kept(
        cls, make: Callable[[], Reference], keep: Keep | None, of: str, name: str, extractor: Extractor,
        paired: bool = False,
    ) -> Reference:  # fmt: skip
        """A reference that is made once and kept for other processes.

        Args:
            make: Makes the reference.
            keep: Stores and loads tensors by name. None makes the reference anew.
            of: Identifies the pictures, such as by a hash.
            name: Where the pictures came from.
            extractor: Gives the features.
            paired: As the attribute.
        """
        if keep is None:
            return make()
        import torch

        def tensors() -> dict[str, torch.Tensor]:
            made = make()
            return {part: torch.from_numpy(np.ascontiguousarray(getattr(made, part))) for part in KEPT}

        facts = hashlib.sha256(f"{of} {extractor.name} {extractor.resizer}".encode()).hexdigest()[:20]
        found = keep(f"features-{facts}", tensors)
        features, mean, cov = (found[part].numpy() for part in KEPT)
        return cls(name, extractor.name, extractor.resizer, features, mean, cov, paired)

    @classmethod
    def from_folder(
        cls, folder: str | Path, extractor: Extractor, minimum: int = frechet.MINIMUM, keep: Keep | None = None
    ) -> Reference:
        """The reference of a folder of PNG, WebP or JPEG files.

        Args:
            folder: Its subfolders are not read.
            extractor: Gives the features.
            minimum: How many pictures are needed.
            keep: Keeps the features until a file changes.

        Raises:
            ScoreError: For no folder, an unreadable picture, or fewer pictures than `minimum`.
        """
        paths = find_pictures(Path(folder))
        if len(paths) < minimum:
            raise ScoreError(
                f"The folder {folder} holds {len(paths)} picture(s), and the metric needs at least {minimum}; add "
                "pictures."
            )

        def made() -> Reference:
            features = np.concatenate([extractor(batch).values for batch in read_batches(paths)])
            return cls.from_features(str(folder), extractor, features)

        return cls.kept(made, keep, _files(paths), str(folder), extractor)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: features, mean and cov in float32, the other attributes as metadata.

        Raises:
            ScoreError: When the file cannot be written.
        """
        from safetensors.numpy import save_file

        tensors = {"features": self.features, "mean": self.mean, "cov": self.cov}
        metadata = {
            "format": FORMAT,
            "name": self.name,
            "extractor": self.extractor,
            "resizer": self.resizer,
            "count": str(self.count),
        }
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            narrowed = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in tensors.items()}
            save_file(narrowed, path, metadata=metadata)
        except OSError as problem:
            raise ScoreError(f"The statistics cannot be written to {path}: {problem.strerror or problem}.") from problem

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read a file that `save` wrote.

        Raises:
            ScoreError: For a file that is missing, damaged, or something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise ScoreError(f"There is no statistics file {path}; give one that was saved, or a folder of pictures.")
        try:
            with safe_open(path, framework="numpy") as stream:
                metadata = stream.metadata() or {}
                tensors = {key: stream.get_tensor(key).astype(np.float64) for key in stream.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, TypeError) as problem:
            raise ScoreError(
                f"The statistics file {path} cannot be read; make it again from its pictures."
            ) from problem
        if metadata.get("format") != FORMAT:
            raise ScoreError(
                f"The file {path} is in the format {metadata.get('format')!r}, not {FORMAT!r}; make it again from "
                "its pictures."
            )
        missing = {"features", "mean", "cov"} - set(tensors) or {"name", "extractor", "resizer"} - set(metadata)
        if missing:
            raise ScoreError(
                f"The statistics file {path} lacks {', '.join(sorted(missing))}; make it again from its pictures."
            )
        features, mean, cov = tensors["features"], tensors["mean"], tensors["cov"]
        width = mean.shape[-1] if mean.ndim else 0
        if (
            features.ndim != 2
            or len(features) < frechet.MINIMUM
            or mean.shape != (features.shape[1],)
            or cov.shape != (width, width)
        ):
            raise ScoreError(
                f"The statistics file {path} does not fit together (features {features.shape}, mean {mean.shape}, "
                f"cov {cov.shape}); make it again."
            )
        if not all(np.isfinite(tensor).all() for tensor in (features, mean, cov)):
            raise ScoreError(f"The statistics file {path} holds infinities or NaNs; make it again from its pictures.")
        return cls(metadata["name"], metadata["extractor"], metadata["resizer"], features, mean, cov)

    def check(self, extractor: Extractor) -> None:
        """Check that these features came from `extractor`.

        Raises:
            ScoreError: For another extractor or resizer.
        """
        if (self.extractor, self.resizer) != (extractor.name, extractor.resizer):
            raise ScoreError(
                f"The reference {self.name} was made with {self.extractor} ({self.resizer}), and the pictures are "
                f"scored with {extractor.name} "
                f"({extractor.resizer}); make the reference again, or choose its extractor."
            )

    def floor(self, size: int | None = None, seed: int = 0) -> Estimate:
        """The Frechet distance between two random disjoint sets of reference pictures.

        It is what the metric gives for two sets that are equally good: the mean over several draws, with the 2.5% and
        97.5% quantiles of the draws.

        Args:
            size: Pictures of each set, at most half of the reference (the default).
            seed: Of the draws.

        Raises:
            ScoreError: For a reference of fewer than 4 pictures or a size below 2.
        """
        return self._drawn(None, size, seed)

    def beside_floor(self, values: np.ndarray, size: int | None = None, seed: int = 0) -> Estimate:
        """The Frechet distance between random pictures and as many of the reference, to compare with `floor`.

        A Frechet distance falls with the number of pictures, so both must be computed from the same number.

        Args:
            values: (N, d) features of the pictures.
            size: Pictures of each set, at most half of the reference (the default).
            seed: Of the draws.

        Raises:
            ScoreError: As `floor`, and for fewer than `size` features.
        """
        return self._drawn(values, size, seed)

    def _drawn(self, values: np.ndarray | None, size: int | None, seed: int) -> Estimate:
        half = self.count // 2
        size = min(size or half, half)
        if values is not None and len(values) < size:
            raise ScoreError(
                f"{len(values)} pictures are fewer than the {size} of the reference that they would be compared with; "
                "give more, or a smaller size."
            )
        if size < frechet.MINIMUM:
            raise ScoreError(
                f"The floor of a Frechet distance needs two sets of at least {frechet.MINIMUM} pictures, and the "
                f"reference {self.name} has {self.count}."
            )
        draws = 20 if min(size, self.features.shape[1]) <= 256 else 3
        random = np.random.default_rng(seed)
        found = []
        for _ in range(draws):
            rows = random.permutation(self.count)[: 2 * size]
            first = self.features[rows[:size]] if values is None else values[random.permutation(len(values))[:size]]
            found.append(frechet.between(first, self.features[rows[size:]]))
        return interval(float(np.mean(found)), np.array(found), size)


def _files(paths: Sequence[Path]) -> str:
    """The names, sizes and times of files: what changes with a picture, without reading it."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def load_reference(
    spec: str | Path, extractor: Extractor, minimum: int = frechet.MINIMUM, keep: Keep | None = None
) -> Reference:
    """Load a reference.

    Args:
        spec: `embedded` (the statistics that come with the embedded model), a .safetensors file that `Reference.save`
            wrote, or a folder of pictures.
        extractor: The extractor that scores the pictures.
        minimum: How many pictures a folder needs.
        keep: Keeps the features of a folder.

    Raises:
        ScoreError: When it cannot be read, or was made with another extractor.
    """
    if str(spec) == "embedded":
        reference = Reference.load(STATISTICS_FOLDER / f"{extractor.name}.safetensors")
    elif Path(spec).suffix == ".safetensors":
        reference = Reference.load(spec)
    else:
        return Reference.from_folder(spec, extractor, minimum, keep)
    reference.check(extractor)
    return reference
