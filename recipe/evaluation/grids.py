"""Pictures for the model card: grids of samples, curves of losses. No plotting library: PNG by Pillow, SVG by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image

COLOURS = ("#1f77b4", "#d62728", "#2ca02c")


def save_grid(pictures: torch.Tensor, path: Path, columns: int = 12) -> None:
    """uint8 [N, 3, H, W] as rows of `columns` pictures, side by side."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        sheet.paste(image, (i % columns * width, i // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def read_losses(path: Path, name: str) -> list[tuple[float, float]]:
    """(step, value) pairs of a column of a losses.csv."""
    with path.open(encoding="utf-8") as stream:
        return [(float(row["step"]), float(row[name])) for row in csv.DictReader(stream)]


def save_curves(curves: dict[str, list[tuple[float, float]]], path: Path, title: str) -> None:
    """An SVG of lines over training steps, each scaled to its own largest value, which the legend names."""
    width, height, left, top = 640, 256, 40, 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"',
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18">{title}</text>',
        f'<path d="M{left} {top}V{height - 30}H{width - 10}" fill="none" stroke="#888"/>',
    ]
    last = max(points[-1][0] for points in curves.values())
    for i, (name, points) in enumerate(curves.items()):
        largest = max(value for _, value in points)
        spots = " ".join(
            f"{left + (width - left - 10) * step / last:.1f},{top + (height - 30 - top) * (1 - value / largest):.1f}"
            for step, value in points
        )
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        label = f"{name}: top of the axis {largest:.3g}, last {points[-1][1]:.3g}"
        parts.append(f'<text x="{left + 280 * i}" y="36" fill="{colour}">{label}</text>')
    parts.append(f'<text x="{width - 90}" y="{height - 10}">step {last:.0f}</text></svg>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
