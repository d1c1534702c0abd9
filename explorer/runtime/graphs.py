"""A plan's variants over static buffers, each captured once as a CUDA graph and replayed at every step."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from explorer.errors import CaptureError, ModelError, brief
from explorer.memory import lack_of_memory
from explorer.plans.plan import InheritancePlan, features_read
from explorer.runtime.buffers import FeatureBuffers, StaticInputs, form_of
from explorer.runtime.compiling import Compiled, compiled_function, explained
from explorer.unet.conditions import embedding, read_conditions
from explorer.unet.mask import Mask
from explorer.unet.module_walk import ModuleWalk
from explorer.unet.program import Program
from explorer.unet.variant import Variant

WARMUPS = 2
MAX_FORMS = 4
"""Forms of input (batch, size ...) whose graphs are kept; the one unused for longest goes."""

Step = Callable[[], Tensor]
Capture = Callable[[Step, Any], Step]
RECOVERS = "2.14"
"""The first torch known to end a capture that failed. Earlier ones may believe that it is still under way, which breaks
later work in the process (pytorch#180395, which 2.11 and 2.12 lack; 2.13 was not checked)."""
STEADY = ("context", "added")
"""Arguments that a pipeline makes once a run: what the text says."""
_CAPTURING = threading.Lock()
"""One capture at a time: what it sets and clears is the process's."""


class StaticSteps:
    """Runs the steps of a plan over static buffers.

    Per form of input (shapes, dtypes, what a call carries) there is one set of buffers and one graph a mask, as every
    extract step stores what any inherit step reads. All graphs share one memory pool: a replay's noise is copied out
    of it and features live outside of it. `capture` turns a step over buffers into one that replays it.
    """

    def __init__(
        self, program: Program, plan: InheritancePlan, *, compile: bool, capture: Capture | None = None
    ) -> None:
        self.program, self._plan, self._compile = program, plan, compile
        self._capture = capture or capture_graph
        self._stores = features_read(plan)
        self._variants: dict[Mask, tuple[Variant, Any]] = {}
        self._forms: dict[Hashable, _Form] = {}
        self._current: _Form | None = None
        self._weights: object = None
        self._pool: Any = None
        self.captures = self._embeddings = 0

    @property
    def bytes(self) -> int:
        """Bytes of the feature buffers of the present form of input; those of other forms are kept beside them."""
        return 0 if self._current is None else self._current.features.bytes

    def begin(self, walk: ModuleWalk) -> None:
        """Begin a run, without features. Weights or processors that were exchanged since need new graphs.

        walk: over the UNet as it is.
        """
        self._current = None
        weights = walk.identity()
        if weights != self._weights:
            self._forms.clear()
            self._weights = weights
        for form in self._forms.values():
            form.inputs.forget()

    def step(self, evaluation: int, choice: int, arguments: dict[str, Any]) -> Tensor:
        """The noise (B, C, H, W) of one evaluation; `arguments` as of `read_conditions`.

        Raises:
            ModelError: where gradients are wanted, which a replayed graph cannot give.
            CompileError: where a step cannot be compiled or captured, at its first call.
        """
        if torch.is_grad_enabled():
            raise ModelError("captured steps have no gradients; call the UNet under torch.no_grad().")
        device = arguments["sample"].device
        if not isinstance(arguments["timestep"], Tensor):
            # A number would be built into the graph.
            dtype = torch.float64 if isinstance(arguments["timestep"], float) else torch.int64
            arguments["timestep"] = torch.tensor(arguments["timestep"], dtype=dtype, device=device)
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            return self._step(evaluation, choice, arguments)

    def _step(self, evaluation: int, choice: int, arguments: dict[str, Any]) -> Tensor:
        form = self._form(arguments)
        mask = self._plan.mask(choice)
        variant, call = self._variant(mask)
        if variant.reads and not form.features.sources:
            mask = Mask()  # the form changed inside the run: nothing that is kept fits
            variant, call = self._variant(mask)
        if variant.reads:
            form.features.combine(variant.reads, evaluation)
        elif not mask:
            form.features.extract(evaluation)
        if mask not in form.steps:
            with explained("a step could not be captured as a CUDA graph", "off or default"):
                form.steps[mask] = self._capture(self._over(form, variant, call), self._shared_pool)
            self.captures += 1
        return form.steps[mask]()

    def _shared_pool(self) -> Any:
        if not any(form.steps for form in self._forms.values()):
            self._pool = torch.cuda.graph_pool_handle()  # the allocator forgets a pool with its last graph
        return self._pool

    def _form(self, arguments: dict[str, Any]) -> _Form:
        device = arguments["sample"].device
        key = (device, torch.is_autocast_enabled(device.type), form_of(arguments))
        form = self._forms.pop(key, None)
        if form is None:
            while len(self._forms) >= MAX_FORMS:
                del self._forms[next(iter(self._forms))]
            embed = None
            if self._compile:
                self._embeddings += 1
                embed = compiled_function(embedding, f"embedding_{self._embeddings}")
            form = _Form(StaticInputs(arguments, device, STEADY), FeatureBuffers(self._plan.rule, device), embed)
        else:
            form.inputs.fill(arguments)
        self._forms[key] = form
        if form is not self._current:
            form.features.begin()
            self._current = form
        return form

    def _variant(self, mask: Mask) -> tuple[Variant, Any]:
        if mask not in self._variants:
            variant = Variant(self.program, mask, frozenset() if mask else self._stores)
            call = Compiled(variant, len(self._variants)) if self._compile else variant
            self._variants[mask] = variant, call
        return self._variants[mask]

    def _over(self, form: _Form, variant: Variant, call: Any) -> Step:
        """One step over the buffers of `form`, the time embedding included."""
        program = self.program

        def step() -> Tensor:
            sample, at = read_conditions(
                program.unet, program.architecture, **form.inputs.arguments, embed=form.embed
            )  # fmt: skip
            noise, stored = call(sample, at, dict(form.features.read(variant.reads)))
            form.features.write(stored)
            result: Tensor = noise
            return result

        return step


class _Form:
    """The buffers and the captured steps of one form of input."""

    def __init__(
        self, inputs: StaticInputs, features: FeatureBuffers, embed: Callable[..., Tensor] | None = None
    ) -> None:
        self.inputs, self.features, self.embed = inputs, features, embed
        self.steps: dict[Mask, Step] = {}


def capture_graph(step: Step, pool: Callable[[], Any]) -> Step:
    """`step` as one CUDA graph. Its first run allocates buffers and compiles; the next, on a side stream, warm up what
    the capture must not meet for the first time (cuBLAS's handles, autotuning)."""
    with _CAPTURING, _no_kept_casts(), _no_kept_workspaces():
        step()
        main, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                step()
        main.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads of this process (a dashboard's, a compiler's) may use the GPU meanwhile
        options = {"pool": pool(), "capture_error_mode": "thread_local"}
        with _no_kept_workspaces(), _left_on_failure(main), torch.cuda.graph(graph, **options):
            noise = step()

    def replay() -> Tensor:
        graph.replay()
        # A scheduler of several steps keeps what it is given; the next replay writes here again.
        return noise.clone()

    return replay


@contextlib.contextmanager
def _left_on_failure(stream: torch.cuda.Stream) -> Iterator[None]:
    """Go back to `stream` where a capture fails.

    `torch.cuda.graph` ends the capture before it leaves the capture's stream. Where ending it raises, the thread would
    go on there, unsynchronised with what reads its results on the stream from before.

    Raises:
        CaptureError: Where this torch may not recover from the failure. A lack of memory stays what it is.
    """
    handled = sys.exception()
    try:
        yield
    except BaseException as error:
        torch.cuda.set_stream(stream)
        if isinstance(error, Exception) and not recovers() and lack_of_memory(error, handled) is None:
            raise CaptureError(
                f"a step could not be captured as a CUDA graph ({type(error).__name__}: {brief(error, 400)}), and "
                f"torch {torch.__version__} may go on as if the capture were under way; start a new process with the "
                f"compile mode off or default, or install torch {RECOVERS} or newer."
            ) from error
        raise


def recovers() -> bool:
    """Whether the installed torch is known to end a capture that failed."""
    return bool(TorchVersion(torch.__version__) >= RECOVERS)


@contextlib.contextmanager
def _no_kept_casts() -> Iterator[None]:
    """Under autocast, cast the weights within the graph: autocast keeps its casts until the region ends, and a graph
    that had met them there would read memory that was freed since."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


@contextlib.contextmanager
def _no_kept_workspaces() -> Iterator[None]:
    """Let cuBLAS take its workspaces within the graph, from the graph's own pool.

    Up to torch 2.14 a workspace is kept by handle and stream, and all captures share one stream: a graph would write
    into the workspace that an earlier one took from its pool, or a warm-up from the common memory, also after it was
    freed (pytorch#193402). Later ones keep none by default, and there is nothing to clear.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def why_not(walk: ModuleWalk, device: torch.device) -> str | None:
    """Why steps of a UNet cannot be captured as CUDA graphs, in one sentence; None when they can."""
    if any("_hf_hook" in module.__dict__ for module in walk.modules):
        return "offloading moves the weights between steps; keep the model on the GPU or use another compile mode."
    if device.type != "cuda":
        return f"CUDA graphs need the UNet on a CUDA GPU, and it is on {device}; use the compile mode off or default."
    if any(not getattr(module, "merged", False) for module in walk.loras):
        return "a LoRA's scale may change between steps; call pipe.fuse_lora() first or use another compile mode."
    if walk.unet.training:
        return "the UNet is in training mode; call unet.eval() first."
    return None
