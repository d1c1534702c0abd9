"""The words of the model card that no measurement fills in."""

from __future__ import annotations

INTRODUCTION = """
# Model card: emoji, the embedded model

A small text-to-image latent diffusion model that ships with the package, so that every part of it can be tried and
tested on something real without a GPU or a download. It is a stock diffusers `StableDiffusionPipeline`: a UNet of
exactly Stable Diffusion 1.5's topology (38 units), a CLIP text encoder, an AutoencoderKL with 8x8 latents of 12
channels, PNDM, 64x64 pictures. Beside it stand a small CLIP model in open_clip's format, which judges the pictures
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

The generator was trained on {train} concepts in three styles: without a GPU, few concepts drawn well were worth more
than many drawn badly, and 8x8 latents train more than four times faster than 16x16 ones. {held} concepts are held out
for ever; neither the generator nor the autoencoder saw them. The other {extra} concepts trained the autoencoder and
the CLIP model alone. The CLIP model has a split of its own: {judge_train} pictures to train, {judge_held_style} of a
style that it did not see of a concept that it did, and {judge_held} of concepts that it (and the autoencoder) never
saw. It shares no weights with the generator and was trained with another seed. It has seen the real pictures of the
generator's training captions.
"""

SOLVERS = """
PNDM combines the raw predictions of several steps. The model predicts velocities, which change faster from step to step
than noise does, and with ten steps or fewer the combination breaks down. What holds is that this model's path from
noise to picture is nearly straight, since every caption has one picture: a solver that is not PNDM draws it in few
steps, and a reuse of features costs no CLIP score that these pictures show. Paired drift orders both as it should.
"""

LIMITS = """
## What it is not

It is not a general text-to-image model, and no claim about Stable Diffusion follows from a number here. It has learnt
its training pictures more or less by heart: what it draws are variations and blends of them, words that it was not
trained on give blobs, and it does not compose several things. It was trained on two CPU cores for about an hour.
Pictures of people are emoji in their default yellow. Small letters, thin lines and regular patterns come out wrong.
The shipped statistics describe the real pictures of the training captions; a Frechet distance to them rewards
remembering. Use it to see what skipping work does to quality, to test software, and to learn; not to make emoji.
"""
