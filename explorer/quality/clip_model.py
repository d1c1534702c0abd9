"""CLIP models through open_clip, shared by the CLIP score and by the features of CLIP."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ScoreError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

EMBEDDED = "emojiclip"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "embedded" / "emojiclip"

PAPER = "openclip:ViT-g-14/laion2b_s34b_b88k"
"""A-SDM names CLIP-ViT-g/14 (Sec. V-A); these are the weights that the evaluation of BK-SDM, which it follows,
loads.
"""

PREFIX = "openclip:"
_BATCH = 32


def canonical_clip(spec: str) -> str:
    """The one spelling of a CLIP model: emojiclip, or openclip:MODEL/TAG, openclip:hf-hub:ORG/REPO, openclip:FOLDER.

    The prefix may be left out, and so may the tag where open_clip knows one: ViT-g-14 is the paper's.
    """
    if spec == EMBEDDED:
        return spec
    name = spec.removeprefix(PREFIX)
    return PAPER if name == "ViT-g-14" else PREFIX + name


def slug(spec: str) -> str:
    """A short name for columns and metrics: letters, digits and underscores; of a folder its last part."""
    name = spec.removeprefix(PREFIX)
    if Path(name).is_absolute() or Path(name).is_dir():
        name = Path(name).name
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


class ClipModel:
    """A CLIP model on a device: pictures and prompts to rows of unit length."""

    def __init__(self, name: str, model: Any, tokenizer: Any, device: torch.device) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(**model.visual.preprocess_cfg)
        self.name = name
        size = "x".join(map(str, config.input_size[1:]))
        self.resizer = f"pil-{config.interpolation}-{config.resize_mode}-{size}"
        self._model, self._tokenizer, self._device = model.eval().requires_grad_(False), tokenizer, device
        self._transform = image_transform_v2(config, is_train=False)

    def encode_pictures(self, pictures: torch.Tensor) -> NDArray[np.float64]:
        """uint8 (N, 3, H, W) -> (N, d), through the model's own resizing and normalisation."""
        import torch
        from PIL import Image

        rows = []
        for batch in pictures.split(_BATCH):
            images = [self._transform(Image.fromarray(each.permute(1, 2, 0).cpu().numpy())) for each in batch]
            with torch.inference_mode():
                rows.append(self._model.encode_image(torch.stack(images).to(self._device), normalize=True))
        return torch.cat(rows).double().cpu().numpy()

    def encode_prompts(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """N prompts -> (N, d); what is longer than the model's context is cut off."""
        import torch

        rows = []
        for start in range(0, len(prompts), _BATCH):
            tokens = self._tokenizer(list(prompts[start : start + _BATCH])).to(self._device)
            with torch.inference_mode():
                rows.append(self._model.encode_text(tokens, normalize=True))
        return torch.cat(rows).double().cpu().numpy()


@functools.lru_cache(maxsize=2)
def load_clip(spec: str, device: torch.device) -> ClipModel:
    """Load a CLIP model. The last two are kept for further calls.

    Args:
        spec: `emojiclip`, or `openclip:` with a model and tag, or a folder. A model that is not a folder may be
            downloaded by open_clip.
        device: Where it runs.

    Raises:
        ScoreError: When the model, its weights or its tokenizer are not available.
    """
    name = canonical_clip(spec)
    model_name, tag = _source(name)
    import open_clip

    try:
        model = open_clip.create_model(
            model_name, pretrained=tag, device=device, precision="fp32", require_pretrained=True, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as problem:
        # open_clip, safetensors, transformers and the hub client raise a dozen unrelated types for the same thing.
        reason = re.sub(r"\s+", " ", str(problem)).split(". ")[0][:200]
        raise ScoreError(
            f"The CLIP model {name} cannot be loaded ({reason}); name one that open_clip can fetch, or a local "
            "folder of its format."
        ) from problem
    return ClipModel(name, model, tokenizer, device)


def _source(name: str) -> tuple[str, str | None]:
    """open_clip's model name and pretrained tag for a canonical name."""
    if name == EMBEDDED:
        if not EMBEDDED_FOLDER.is_dir():
            raise ScoreError(
                f"The embedded CLIP model is not in this installation ({EMBEDDED_FOLDER}); reinstall the package."
            )
        return f"local-dir:{EMBEDDED_FOLDER}", None
    given = name.removeprefix(PREFIX)
    if given.startswith("hf-hub:"):
        return given, None
    if Path(given).is_dir():
        return f"local-dir:{given}", None
    model, _, tag = given.partition("/")
    import open_clip

    known = open_clip.list_pretrained_tags_by_model(model)
    if not known:
        raise ScoreError(
            f"{given!r} is neither a CLIP model of open_clip nor a folder; use for example "
            "ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/REPO or a path."
        )
    if not tag:
        raise ScoreError(
            f"The CLIP model {model} was named without its weights; write {model}/TAG with one of {', '.join(known)}."
        )
    return model, tag
