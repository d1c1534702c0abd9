"""The words of the model card that no measurement fills in."""

from __future__ import annotations

INTRODUCTION = """
# Model card: emoji, the embedded model

A small text-to-image latent diffusion model that ships with the package, so that every part of it can be tried and
tested on something real without a GPU or a download. It is a stock diffusers `StableDiffusionPipeline`: a UNet of
exactly Stable Diffusion 1.5's topology (38 units), a CLIP text encoder, an AutoencoderKL with {latents},
PNDM, 64x64 pictures. Beside it stand a small CLIP model in open_clip's format, which judges the pictures
(`emojiclip`), statistics of the real pictures, and two prompt sets. All of it was trained from scratch by the recipe in
`recipe/`, on emoji pictures and their names.

A prompt is a name and a style: `taxi, flat style`, `red heart, 3d style`, `panda face, noto style`.
"""

DATA = """
| source | style in captions | licence | attribution |
| --- | --- | --- | --- |
| npm `emoji-datasource-google` 16.0.0 (Noto Emoji) | noto style | Apache-2.0 | Google Inc. and contributors |
| npm `emoji-datasource-twitter` 16.0.0 (Twemoji) | flat style | CC-BY-4.0 | Twitter, Inc. and other contributors |
| npm `@lobehub/fluent-emoji-3d` 1.1.0 (Fluent Emoji) | 3d style | MIT | Microsoft Corporation |

Pictures of 64x64 pixels on white, joined by codepoint. No skin-tone variants, no flags, no symbols and clock faces, no
variants that differ by gender, family or direction alone, and no pictures of other vendors.

{choice} The CLIP model has a split of its own: {judge_train} pictures to train, {judge_held_style} of a
style that it did not see of a concept that it did, and {judge_held} of concepts that it (and the autoencoder) never
saw. It shares no weights with the generator and was trained with another seed. It has seen the real pictures of the
generator's {drawn} training captions, but for {unread} of them, which are of its held-out style.
"""

CHOICES = {
    "as they are": """
The generator was trained on {train} concepts in three styles: without a GPU, few concepts drawn well were worth more
than many drawn badly, and 8x8 latents train more than four times faster than 16x16 ones. {held} concepts are held out
for ever; neither the generator nor the autoencoder saw them. {helping} others trained the autoencoder and the CLIP
model alone, and {untrained} nothing: the CLIP model is tested on them.""".strip(),
    "placed": """
The generator was trained on {train} concepts in three styles, every picture at many sizes and places and, where its
name allows, mirrored, so that one caption has many pictures. {held} concepts are held out for ever; neither the
generator nor the autoencoder saw them. The other {untrained} concepts trained nothing: the CLIP model is tested on
them. The real pictures that the figures below compare with are placed in the same way.""".strip(),
}

HISTORY = """
Until November 2026 other weights shipped. They had one picture for each caption and memorised it, so the path from
noise to picture was nearly straight: DDIM drew a picture in five steps at no loss, and a reuse of DeepCache's branch
cost nothing. These weights learned every picture at 128 places and sizes, and captions that leave the style, the
concept or both open, so that fewer steps and reused features cost quality, as they do on Stable Diffusion. The former
model card is in the repository's history. Figures of the documentation that say *earlier weights* are of theirs."""

DISTANCE = """
A Frechet distance falls with the number of pictures: only those of n generated from n real pictures and of n real ones
from n others are of one kind. KID does not, and is 0 for equal sets."""

SOLVERS = """
PNDM combines the raw predictions of several steps. Under guidance they change abruptly where the half without a caption
settles on a picture, and with few steps the combination overshoots there; without guidance it does not, whether a model
predicts velocities or noise (`python -m benchmarks.solver_by_prediction`, with an exact denoiser)."""

PATHS = {
    "as they are": """ This model's path
from noise to picture is nearly straight, since every caption has one picture: a solver that is not PNDM draws it in few
steps, and a reuse of DeepCache's branch costs no CLIP score that these pictures show. A reuse of every unit's residual
does at every tenth step; drift and both Frechet distances order the 2nd, 5th and 10th step, and at the 2nd and the 5th
the judge sees no loss. It has learnt the same pictures, and sees less than EfficientNet does. Paired drift orders all
of them.
""",
    "placed": """ DDIM and DPM-Solver++ lose
quality with five steps and fewer, and more with `leading` spacing, the default of Stable Diffusion's configurations,
than with `trailing`. Reused features drift the more, the more nodes take them and the older they are.
""",
}

HEARTS = {
    "as they are": """It has learnt its training pictures more or less by heart: what it draws are variations and blends
of them,""",
    "placed": """It draws its training pictures at sizes and places of its own, and blends of them;""",
}

LIMITS = """
## What it is not

It is not a general text-to-image model, and no claim about Stable Diffusion follows from a number here.
{heart} words that it was not trained on give blobs, and it does not compose several things.
It was trained on {device}.
Pictures of people are emoji in their default yellow. Small letters, thin lines and regular patterns come out wrong.
The shipped statistics describe the real pictures of the training captions; a Frechet distance to them rewards
remembering. Use it to see what skipping work does to quality, to test software, and to learn; not to make emoji.
"""
