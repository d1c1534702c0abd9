"""Transformer blocks called in fewer steps of Python: to the bit what diffusers makes, and no change passed over."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models import attention_processor
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from explorer.unet.transformer import run_block

WIDTH, CONTEXT = 16, 12


def block_of(**options: Any) -> Any:
    torch.manual_seed(0)
    return BasicTransformerBlock(WIDTH, 2, 8, cross_attention_dim=CONTEXT, **options).eval()


def inputs() -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    return {
        "hidden": torch.randn(2, 9, WIDTH, generator=random),
        "context": torch.randn(2, 5, CONTEXT, generator=random),
        "attention_mask": None,
        "context_mask": torch.where(torch.rand(2, 1, 5, generator=random) < 0.3, -10000.0, 0.0),
    }


def stock(block: Any, given: dict[str, Any], kwargs: dict[str, Any] | None = None) -> torch.Tensor:
    found: torch.Tensor = block(
        given["hidden"], attention_mask=given["attention_mask"], encoder_hidden_states=given["context"],
        encoder_attention_mask=given["context_mask"], cross_attention_kwargs=kwargs,
    )  # fmt: skip
    return found


@pytest.fixture
def no_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a processor's signature was inspected")

    monkeypatch.setattr(attention_processor.inspect, "signature", never)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"only_cross_attention": True},
        {"activation_fn": "gelu"},
        {"attention_bias": True},
        {"upcast_attention": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("masked", [False, True])
def test_a_plain_block_gives_the_same_to_the_bit(
    options: dict[str, Any], masked: bool, request: pytest.FixtureRequest
) -> None:
    block = block_of(**options)
    given = inputs() | ({} if masked else {"context_mask": None})
    with torch.no_grad():
        expected = stock(block, given)
        request.getfixturevalue("no_signatures")
        assert torch.equal(run_block(block, **given, attention_kwargs=None), expected)
        assert torch.equal(run_block(block, **given, attention_kwargs={}), expected)


@contextmanager
def hooked(module: nn.Module, seen: list[str]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *_: seen.append("called"))
    yield
    handle.remove()


@contextmanager
def patched(module: nn.Module, seen: list[str]) -> Iterator[None]:
    inner = module.forward
    module.forward = lambda *args, **kwargs: seen.append("called") or inner(*args, **kwargs)  # type: ignore[method-assign]
    yield
    del module.forward


@contextmanager
def subclassed(module: nn.Module, seen: list[str]) -> Iterator[None]:
    kind: Any = type(module)

    class Other(kind):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("called")
            return super().forward(*args, **kwargs)

    module.__class__ = Other
    yield
    module.__class__ = kind


@contextmanager
def class_patched(module: nn.Module, seen: list[str]) -> Iterator[None]:
    kind: Any = type(module)
    inner = kind.forward
    kind.forward = lambda self, *args, **kwargs: seen.append("called") or inner(self, *args, **kwargs)
    yield
    kind.forward = inner


@contextmanager
def hooked_everywhere(module: nn.Module, seen: list[str]) -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(
        lambda called, *_: seen.append("called") if called is module else None
    )
    yield
    handle.remove()


@contextmanager
def compiled_alone(module: nn.Module, seen: list[str]) -> Iterator[None]:
    module.compile(backend=lambda graph, _: lambda *inputs: seen.append("called") or graph(*inputs))
    yield
    module._compiled_call_impl = None
    torch._dynamo.reset()


@pytest.mark.parametrize("part", ["block", "attn1", "attn2"])
@pytest.mark.parametrize("change", [hooked, patched, subclassed, class_patched, hooked_everywhere, compiled_alone])
def test_what_was_put_on_a_block_is_run(change: Callable[..., Any], part: str) -> None:
    block, given, seen = block_of(), inputs(), []
    module = block if part == "block" else getattr(block, part)
    with torch.no_grad():
        expected = stock(block, given)
        with change(module, seen):
            assert torch.equal(run_block(block, **given, attention_kwargs=None), expected)
        assert "called" in seen
        seen.clear()
        assert torch.equal(run_block(block, **given, attention_kwargs=None), expected) and not seen


def test_another_processor_is_called_and_its_arguments_reach_it() -> None:
    class Scaled(attention_processor.AttnProcessor2_0):
        def __call__(self, *args: Any, factor: float = 2.0, **kwargs: Any) -> Any:
            return factor * super().__call__(*args, **kwargs)

    block, given = block_of(), inputs()
    with torch.no_grad():
        before = stock(block, given)
        block.attn2.set_processor(Scaled())
        for kwargs in (None, {"factor": 3.0}):
            found = run_block(block, **given, attention_kwargs=kwargs)
            assert torch.equal(found, stock(block, given, kwargs)) and not torch.equal(found, before)
    assert "factor" in inspect.signature(Scaled.__call__).parameters


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_chunked_feed_forward_stays_chunked(chunk: int) -> None:
    block, given, sizes = block_of(), inputs(), []
    block.set_chunk_feed_forward(chunk, 1)
    block.ff.register_forward_hook(lambda _, args, __: sizes.append(args[0].shape[1]))
    with torch.no_grad():
        run_block(block, **given, attention_kwargs=None)
    assert sizes == [chunk] * (9 // chunk)


def test_a_compiler_sees_the_block_itself() -> None:
    block, given, graphs = block_of(), inputs(), []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        call = torch.compile(lambda: run_block(block, **given, attention_kwargs=None), backend=count, fullgraph=True)
        torch.testing.assert_close(call(), stock(block, given))
    assert len(graphs) == 1
