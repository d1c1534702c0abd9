"""Makes the pictures that plans are scored by: prompts, seeds, embeddings, un-accelerated pictures, saved files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from explorer.errors import ScoreError, StudyError
from explorer.models.pictures import as_png, check_informative, generate
from explorer.models.workload import is_guided
from explorer.runtime.replay import Recording
from studies.scored import Picture
from studies.scoring.running import encode

if TYPE_CHECKING:
    import torch

    from explorer.models.prompts import Prompt
    from explorer.runtime.inherit import Inheritance
    from studies.scoring.pipelines import Pipelines
    from studies.storage.saved import Saved

BEGINNINGS = "beginnings"
"""The folder of what plans that begin alike share, among what the study has saved."""


@dataclass(frozen=True, eq=False)
class PictureMaker:
    """Makes pictures of plans and of the un-accelerated pipeline, the same ones whoever asks.

    Attributes:
        pipelines: What the pictures are made with.
        prompts: One for each picture.
        steps: Of the un-accelerated run.
        guidance: The guidance scale.
        device: Where embeddings are kept.
        seed: Of the first prompt's picture; the next one's is one more.
        batch: Pictures a call.
        size: Height and width of a picture in pixels; None for the pipeline's own.
        overlap: Make pictures while those before are turned into bytes.
        saved: Where text embeddings, un-accelerated pictures, their features and beginnings of runs are kept for all
            processes of the study; None keeps them in this process.
        recording: Beginnings of runs, so that plans which begin alike do not compute theirs twice; None replays none.
        embeddings: Those that were made, by the texts of their batch.
    """

    pipelines: Pipelines
    prompts: tuple[Prompt, ...]
    steps: int
    guidance: float
    device: torch.device
    seed: int = 0
    batch: int = 16
    size: tuple[int, int] | None = None
    overlap: bool = False
    saved: Saved | None = None
    recording: Recording | None = None
    embeddings: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict, repr=False)

    def with_saved(self, saved: Saved) -> PictureMaker:
        """The same, which keeps what it makes in `saved`, for all processes of the study."""
        recording = None if self.recording is None else Recording(self.recording.limit, saved.folder / BEGINNINGS)
        return replace(self, saved=saved, recording=recording)

    def reseeded(self, seed: int) -> PictureMaker:
        """The same of other seeds. What is saved is of this one's."""
        return replace(self, seed=seed, saved=None)

    def pictures(
        self, pipe: Any, steps: int, prompts: Sequence[Prompt] | None = None, seed: int | None = None
    ) -> torch.Tensor:
        """Those of `pipe`, by default of all prompts; uint8 (N, 3, H, W)."""
        return generate(
            pipe, self.prompts if prompts is None else prompts, seed=self.seed if seed is None else seed, steps=steps,
            guidance=self.guidance, batch_size=self.batch, size=self.size, embed=self.embed,
            overlap=self.overlap,
        )  # fmt: skip

    def planned(self, handle: Inheritance, steps: int, prompts: Sequence[Prompt], first: int) -> torch.Tensor:
        """Those of the plan that `handle` applies, of some prompts of which the first has the number `first`; uint8
        (N, 3, H, W). A beginning that an earlier plan had is not computed again."""
        handle.recording = self.recording  # not while a latency is measured
        try:
            return self.pictures(self.pipelines.candidate, steps, prompts, self.seed + first)
        finally:
            handle.recording = None

    @cached_property
    def baseline(self) -> torch.Tensor:
        """The un-accelerated pictures of all prompts, made once; uint8 (N, 3, H, W).

        Raises:
            StudyError: when they cannot be made. No plan could be scored beside them: the study stops instead of
                recording failures.
        """
        try:
            made = self.kept("un-accelerated", lambda: {"pictures": self.pictures(self.pipelines.stock, self.steps)})
            self.check(made["pictures"])
        except (ScoreError, RuntimeError) as error:
            raise StudyError(
                f"the un-accelerated pipeline cannot make its pictures ({str(error).rstrip('.')})."
            ) from error
        return made["pictures"]

    def check(self, pictures: torch.Tensor) -> None:
        """Raises ScoreError for pictures without information."""
        check_informative(pictures, self.pipelines.pipe.unet.dtype)

    def kept(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """What is saved under `name`, or else what `make` gives."""
        return make() if self.saved is None else self.saved.get(name, make)

    def embed(self, texts: list[str]) -> dict[str, Any]:
        """The embeddings of a batch, made once: every plan has the same prompts."""
        batch = tuple(texts)
        if batch not in self.embeddings:
            name = f"text-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}"
            guided = is_guided(self.guidance)
            negative = self.prompts[0].negative
            made = self.kept(name, lambda: encode(self.pipelines.pipe, texts, self.device, guided, negative))
            self.embeddings[batch] = {key: value.to(self.device) for key, value in made.items()}
        return self.embeddings[batch]

    def sample(self, number: int, picture: torch.Tensor) -> Picture:
        """The picture of the prompt of that number, as it is stored."""
        return Picture(number, *as_png(picture), prompt=self.prompts[number].text, seed=self.seed + number)
