"""Damaged and hostile plan files: each loads as a valid plan or is refused in one sentence, soon and in bounded memory.

1,000 files by default; EXPLORER_MUTATIONS=10000 asks for more. A file follows from its number alone, so that a failure
names the one to look at: `mutated(number)`.
"""

from __future__ import annotations

import copy
import json
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from tests.explorer.plans.test_plan import PLANS, places

COUNT = int(os.environ.get("EXPLORER_MUTATIONS", "1000"))
SECONDS = 2.0
MEGABYTES = 64
LONGEST_MESSAGE = 2000

NUMBERS: list[Any] = [
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**70),
    10**300,
    10**4000,
    1e308,
    -0.0,
    5e-324,
    0.1,
    True,
    10_000,
    10_001,
]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "1e-999", "0x10", "01", "tru", '"\\ud800"', '"\\u0000"']
TEXTS = ["", "residual", "output", "dn0.l0.res", "up3.l1.attn", "out", "conv_in", "copy", "forecast", "segments",
         "\u202e", "a" * 5000, "\x1b[2J", "__class__", "dn0.l0.res\n", "💥", "DDIMScheduler"]  # fmt: skip


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"kind": value}
    return value


def any_value(draw: random.Random) -> Any:
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(NUMBERS)
    if kind == 1:
        return draw.choice(TEXTS)
    if kind == 2:
        return draw.choice([None, [], {}, [[]], [{}], [None], {"kind": "segments", "runs": []}])
    if kind == 3:
        return nested(draw.choice([3, 200]), draw.choice(["list", "dict"]))
    if kind == 4:
        return [draw.choice(NUMBERS[:6]) for _ in range(draw.choice([2, 50, 2000]))]
    if kind == 5:
        return {draw.choice(TEXTS): draw.choice(TEXTS) for _ in range(5)}
    if kind == 6:
        one, other = draw.choice(NUMBERS), draw.choice(NUMBERS)
        return {"kind": draw.choice(["periodic", "curve", "segments"]), "period": one, "offset": 0, "tail": other,
                "switches": [], "extracts": one, "centre": 0.5, "power": draw.choice([1, 1.4, 10]),
                "runs": [[0, 1], [one, other]]}  # fmt: skip
    return draw.random()


def changed(draw: random.Random, document: Any) -> Any:
    """One part of the document replaced, removed, doubled, swapped with another, or joined by one more."""
    document = copy.deepcopy(document)
    path = draw.choice(places(document)[1:])
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    key, action = path[-1], draw.randrange(5)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent[:] = (parent * draw.choice([2, 64, 1000]))[:300]
    elif action == 2:
        parent[key] = copy.deepcopy(next(iter(draw.choice(list(PLANS.values())).to_json().values())))
    elif action == 3 and isinstance(parent, dict):
        parent[draw.choice(TEXTS)] = any_value(draw)
    else:
        parent[key] = any_value(draw)
    return document


def structural(draw: random.Random, document: Any, text: str) -> bytes:
    for _ in range(draw.choice([1, 1, 2, 4])):
        if not isinstance(document, dict) or not 2 <= len(places(document)) < 5000:
            break
        document = changed(draw, document)
    return json.dumps(document).encode()


def flipped(draw: random.Random, document: Any, text: str) -> bytes:
    data = bytearray(text.encode())
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def cut(draw: random.Random, document: Any, text: str) -> bytes:
    first, last = sorted((draw.randrange(len(text)), draw.randrange(len(text))))
    return draw.choice([text[:first], text[last:], text[:first] + text[last:], text + text[:first]]).encode()


def raw_value(draw: random.Random, document: Any, text: str) -> bytes:
    """A value that JSON writers do not write, in place of one."""
    marked = changed(draw, document)
    path = draw.choice(places(marked)[1:])
    parent = marked
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = "@@@"
    return json.dumps(marked).replace('"@@@"', draw.choice(RAW), 1).encode("utf-8", "surrogatepass")


def deep(draw: random.Random, document: Any, text: str) -> bytes:
    depth = draw.choice([10, 900, 1100, 100_000, 1_000_000])
    opening, closing = draw.choice([("[", "]"), ('{"kind":', "}")])
    bomb = opening * depth + ("1" + closing * depth if draw.random() < 0.5 else "")
    return text.replace(draw.choice(["50", "20", "null", '"residual"', "4"]), bomb, 1).encode()


def wrapped(draw: random.Random, document: Any, text: str) -> bytes:
    return draw.choice([
        b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32"), text.encode() * 2,
        b" " * 1_000_000 + text.encode(), f"[{text}]".encode(), json.dumps(text).encode(), text.encode()[::-1],
        text.replace('"steps"', '"steps": 1, "steps"').encode(), b"\x00" + text.encode(), b"PK\x03\x04" + text.encode(),
    ])  # fmt: skip


MUTATIONS: list[Callable[[random.Random, Any, str], bytes]] = [
    structural, structural, structural, structural, flipped, flipped, cut, raw_value, deep, wrapped
]  # fmt: skip


def mutated(number: int) -> bytes:
    """The file of a number."""
    draw = random.Random(number)
    document = json.loads(json.dumps(draw.choice(list(PLANS.values())).to_json()))
    return MUTATIONS[number % len(MUTATIONS)](draw, document, json.dumps(document))


def test_every_mutated_file_is_valid_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    valid = 0
    for number in range(COUNT):
        path.write_bytes(mutated(number))
        # Memory is watched on one in ten: watching takes several times as long as loading.
        watched = number % 10 == number // 10 % 10
        if watched:
            tracemalloc.start()
        began = time.process_time()
        try:
            plan = InheritancePlan.load(path)
        except PlanError as error:
            said = str(error)
            assert 20 < len(said) < LONGEST_MESSAGE and "\n" not in said, (number, said[:300])
            said.encode()
        else:
            valid += 1
            assert InheritancePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan, number
            assert len(plan.describe()) < LONGEST_MESSAGE, number
            try:
                assert plan.key(51), number
            except PlanError as error:
                assert "writes out" in str(error), number
        finally:
            took = time.process_time() - began
            if watched:
                peak = tracemalloc.get_traced_memory()[1] / 2**20
                tracemalloc.stop()
        assert took < SECONDS, (number, took)
        assert not watched or peak < MEGABYTES, (number, peak)
    print(f"{COUNT} mutated files: {valid} valid, {COUNT - valid} refused")
    assert 0.02 * COUNT < valid < 0.9 * COUNT
