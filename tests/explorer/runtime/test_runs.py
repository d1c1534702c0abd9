"""A run's state is its own: in threads, interleaved in one thread, and where the caller copies the timestep."""

from __future__ import annotations

import copy
import functools
import gc
import threading
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, ModelError, PlanError, inherit
from explorer.plans.schedule import Segments
from explorer.runtime.graphs import StaticSteps
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import embeds, make_unet
from tests.explorer.runtime.small_runs import BETAS, latents, plan_for, small_pipeline
from tests.explorer.runtime.static_runs import direct

STEPS = 6
PATIENCE = 120


def ddim(**changes: Any) -> Any:
    return diffusers.DDIMScheduler(**BETAS, clip_sample=False, **changes)


def twin(pipe: Any) -> Any:
    """Another pipeline of the same UNet, with a scheduler of its own."""
    parts = {**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler), "requires_safety_checker": False}
    made = type(pipe)(**parts)
    made.set_progress_bar_config(disable=True)
    return made


def draw(pipe: Any, seed: int, **kwargs: Any) -> torch.Tensor:
    given = {name: value * (1 + seed) for name, value in embeds().items()}
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    return latents(pipe, STEPS, latents=start, **given, **kwargs)


def together(*jobs: Callable[[Callable[[], None]], torch.Tensor]) -> list[Any]:
    """Each job in a thread of its own. It is given what to call after each step: then all wait for each other."""
    barrier = threading.Barrier(len(jobs), timeout=PATIENCE)
    found: list[Any] = [None] * len(jobs)

    def work(number: int) -> None:
        try:
            found[number] = jobs[number](barrier.wait)  # type: ignore[arg-type]
        except Exception as error:
            barrier.abort()
            found[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def waiting(step: Callable[[], None]) -> dict[str, Any]:
    return {"callback_on_step_end": lambda *_: (step(), {})[1]}


def over_buffers(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `handle` run as `cudagraphs-eager` does, without a capture."""
    monkeypatch.setattr(handle, "_usable_mode", lambda: "cudagraphs-eager")
    monkeypatch.setattr("explorer.runtime.inherit.StaticSteps", functools.partial(StaticSteps, capture=direct))


@pytest.mark.parametrize("captured", [False, True])
def test_two_threads_draw_what_each_draws_alone(captured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = small_pipeline()
    other = twin(pipe)
    with inherit(pipe, plan_for(pipe, "CO1", "P3", STEPS, "forecast1")) as handle:
        if captured:
            over_buffers(handle, monkeypatch)
        handle.follow(other)
        alone = [draw(pipe, 0), draw(other, 1)]
        for _ in range(2):
            found = together(lambda step: draw(pipe, 0, **waiting(step)), lambda step: draw(other, 1, **waiting(step)))
            assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True)), found
        assert not captured or len(handle._idle) == 2  # what they have captured serves the runs that come


@pytest.mark.parametrize("captured", [False, True])
def test_a_run_within_a_run_leaves_it_alone(captured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview that another pipeline draws in a callback, in the same thread."""
    pipe = small_pipeline()
    other, previews = twin(pipe), []

    def preview(_: Any, step: int, *__: Any) -> dict[str, Any]:
        if step in (1, 3):
            previews.append(draw(other, 1))
        return {}

    with inherit(pipe, plan_for(pipe, "DC0", "P3", STEPS)) as handle:
        if captured:
            over_buffers(handle, monkeypatch)
        handle.follow(other)
        alone = [draw(pipe, 0), draw(other, 1)]
        assert torch.equal(draw(pipe, 0, callback_on_step_end=preview), alone[0])
    assert len(previews) == 2 and all(torch.equal(each, alone[1]) for each in previews)


def loop(
    unet: Any, scheduler: Any, seed: int, given: Callable[[torch.Tensor], Any] = lambda t: t, *, first: int = 0,
    steps: Any = None, after: Callable[[], Any] = lambda: None,
) -> torch.Tensor:  # fmt: skip
    """A bare loop over the timesteps from `first` on, or over `steps`; the UNet is given `given(timestep)`."""
    generator = torch.Generator().manual_seed(seed)
    x, context = (torch.randn(1, *size, generator=generator) for size in ((4, 16, 16), (7, 16)))
    for t in scheduler.timesteps[first:] if steps is None else steps:
        with torch.no_grad():
            noise = unet(x, given(t), encoder_hidden_states=context).sample
        x = scheduler.step(noise, t.to(scheduler.timesteps.dtype), x).prev_sample
        after()
    return x


@pytest.mark.parametrize("sets", [False, True])
def test_threads_that_share_a_scheduler_without_state_draw_what_each_draws_alone(sets: bool) -> None:
    """They walk over the same timesteps, or each has set its own, of which the scheduler knows the last."""
    unet, scheduler = small_pipeline().unet, ddim()
    set_by_both = threading.Barrier(2, timeout=PATIENCE)

    def job(seed: int, step: Callable[[], None]) -> torch.Tensor:
        steps = scheduler.timesteps
        if sets:
            scheduler.set_timesteps(STEPS)
            steps = scheduler.timesteps
            set_by_both.wait()
        return loop(unet, scheduler, seed, steps=steps, after=step)

    plan = plan_for(type("Owner", (), {"unet": unet}), "DC0", "P3", STEPS)
    with inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(STEPS)
        alone = [loop(unet, scheduler, seed) for seed in (1, 2)]
        found = together(functools.partial(job, 1), functools.partial(job, 2))
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True)), found


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_run_whose_steps_come_from_a_pool_of_threads_is_one_run(by_hand: bool) -> None:
    """As a web server's generator: each step is called in whichever thread is free."""
    pipe, scheduler = small_pipeline(), ddim()
    unet = pipe.unet
    forward = unet.forward

    def elsewhere(*args: Any, **kwargs: Any) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(call(*args, **kwargs)))
        thread.start()
        thread.join()
        return found[0]

    with inherit(unet, plan_for(pipe, "DC0", "P3", STEPS), scheduler=None if by_hand else scheduler) as handle:
        call = torch.no_grad()(unet.forward)
        drawn = []
        for each in (call, elsewhere):
            scheduler.set_timesteps(STEPS)
            if by_hand:
                handle.begin(STEPS)
            drawn.append(loop(each, scheduler, 1))
        assert torch.equal(*drawn)
    assert forward == unet.forward


def test_a_run_that_is_left_holds_nothing_once_its_timesteps_are_gone() -> None:
    """In the same thread or another, which may have ended."""
    pipe = small_pipeline()
    other = twin(pipe)

    def stop(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    def cut_off(cut: Any) -> None:
        try:
            draw(cut, 0, callback_on_step_end=stop)
        except KeyboardInterrupt:
            return

    with inherit(pipe, plan_for(pipe, "CO1", "P3", STEPS)) as handle:
        handle.follow(other)
        thread = threading.Thread(target=cut_off, args=(pipe,))
        thread.start()
        thread.join()
        held = handle.cache_bytes
        gc.collect()
        cut_off(pipe)
        assert handle.cache_bytes == held > 0
        pipe.scheduler.set_timesteps(STEPS)
        gc.collect()
        draw(other, 1)
        assert handle.cache_bytes == 0
        cut_off(pipe)
    assert handle.cache_bytes == 0


# Copied timesteps ----------------------------------------------------------------------------------------------------

COPIES: dict[str, Callable[[torch.Tensor], Any]] = {
    "repeat": lambda t: t.repeat(1),
    "a part of repeat": lambda t: t.repeat(2)[:1],
    "item": lambda t: t.item(),
    "int": int,
    "tensor": lambda t: torch.tensor([t]),
    "clone": lambda t: t.clone(),
    "float": lambda t: t.float(),
    "half": lambda t: t.half(),
}


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "HeunDiscreteScheduler"])
@pytest.mark.parametrize("copied", COPIES)
def test_a_copied_timestep_is_as_good_as_the_scheduler_s_own(copied: str, name: str) -> None:
    """Two runs after one `set_timesteps`, of all and of the last timesteps, one of them cut off."""
    given, counts = COPIES[copied], []
    unet, scheduler = small_pipeline().unet, getattr(diffusers, name)(**BETAS)
    scheduler.set_timesteps(STEPS)
    plan = plan_for(type("Owner", (), {"unet": unet}), "DC0", "P3", STEPS)

    def calls(given: Callable[[torch.Tensor], Any]) -> list[torch.Tensor]:
        steps, made = scheduler.timesteps, []
        with torch.no_grad(), inherit(unet, plan, scheduler=scheduler):
            scheduler.set_timesteps(STEPS)
            steps = scheduler.timesteps
            for seed, part in enumerate((steps, steps[3:], steps[:4], steps, steps[3:])):
                generator = torch.Generator().manual_seed(seed)
                x, context = (torch.randn(1, *size, generator=generator) for size in ((4, 16, 16), (7, 16)))
                made += [unet(x + i, given(t), encoder_hidden_states=context).sample for i, t in enumerate(part)]
        return made

    unet.conv_in.register_forward_hook(lambda *_: counts.append(0))
    unet.mid_block.resnets[0].conv1.register_forward_hook(lambda *_: counts.__setitem__(-1, 1))
    found, expected = calls(given), calls(lambda t: t)
    assert counts[: len(found)] == counts[len(found) :] and 0 in counts
    if all(given(t) == t for t in scheduler.timesteps):
        wrong = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if not torch.equal(a, b)]
        assert not wrong


@pytest.mark.parametrize("part", [0, 3])
def test_a_copied_schedule_is_as_good_as_the_scheduler_s_own(part: int) -> None:
    """`timesteps.to(device)`, also of a part and to another dtype, once for two runs or for each."""
    unet, scheduler = small_pipeline().unet, ddim()
    plan = plan_for(type("Owner", (), {"unet": unet}), "DC0", "P3", STEPS)
    with inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(STEPS)
        expected = [loop(unet, scheduler, seed, first=part) for seed in (1, 2)]
        for made in (lambda: scheduler.timesteps[part:].clone(), lambda: scheduler.timesteps.float()[part:]):
            once = made()
            for steps in (lambda: once, made):  # noqa: B023
                found = [loop(unet, scheduler, seed, steps=steps()) for seed in (1, 2)]
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        with pytest.raises(PlanError, match="schedule that the plan does not follow"):
            unet(torch.randn(1, 4, 16, 16), torch.tensor([700, 500, 300])[1], torch.randn(1, 7, 16))


def test_runs_of_one_evaluation_need_no_timesteps_set_anew() -> None:
    unet, scheduler = small_pipeline().unet, ddim()
    plan = plan_for(type("Owner", (), {"unet": unet}), "DC0", "P3", 1)
    with inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(1)
        for given in (lambda t: t, lambda t: t.item()):
            first = loop(unet, scheduler, 1, given)
            loop(unet, scheduler, 2, given)
            assert torch.equal(loop(unet, scheduler, 1, given), first)


def test_calls_that_are_no_run_are_refused_for_the_right_reason() -> None:
    unet, scheduler = small_pipeline().unet, ddim()
    plan = plan_for(type("Owner", (), {"unet": unet}), "DC0", "P3", STEPS)
    x, context = torch.randn(1, 4, 16, 16), torch.randn(1, 7, 16)
    with torch.no_grad(), inherit(unet, plan, scheduler=scheduler) as handle:
        with pytest.raises(PlanError, match="before a run began"):
            unet(x, 5, context)
        for part in (0, 3):  # guidance in separate calls
            scheduler.set_timesteps(STEPS)
            with pytest.raises(PlanError, match="more than once at one timestep"):
                for t in scheduler.timesteps[part:]:
                    unet(x, t.item(), context)
                    unet(x, t.item(), context * 2)
        first = loop(unet, scheduler, 1, lambda t: t.item())
        with pytest.raises(PlanError, match="timestep 7, which is none of those"):
            unet(x, 7, context)
        assert torch.equal(loop(unet, scheduler, 1, lambda t: t.item()), first)
        handle.begin(1)  # a loop with timesteps of its own
        unet(x, 7, context)
        with pytest.raises(PlanError, match=r"more often than the 1 evaluations that handle\.begin"):
            unet(x, 6, context)


def test_a_picture_begun_again_at_its_first_timestep_takes_nothing_of_the_one_before() -> None:
    unet, scheduler = small_pipeline().unet, ddim()
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(Architecture.of(unet).units[:3]),), Segments.of([0, 1]))
    with torch.no_grad(), inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(2)
        t = scheduler.timesteps[0].item()
        x, context = torch.randn(2, 1, 4, 16, 16), torch.randn(1, 7, 16)
        unet(x[0], t, context)
        found = unet(x[1], t, context).sample
    with torch.no_grad():
        assert torch.equal(found, unet(x[1], t, context).sample)


# Gradients, text states and schedulers -------------------------------------------------------------------------------


def guided(unet: Any, scheduler: Any) -> list[torch.Tensor]:
    """Loss guidance: one backward a step. The gradients."""
    scheduler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(1, *size, generator=generator) for size in ((4, 16, 16), (7, 16)))
    grads = []
    for t in scheduler.timesteps:
        x = x.detach().requires_grad_(True)
        noise = unet(x, t, encoder_hidden_states=context).sample
        (scheduler.step(noise, t, x).pred_original_sample ** 2).mean().backward()
        grads.append(x.grad)
        x = scheduler.step(noise.detach(), t, x.detach() - 0.1 * x.grad).prev_sample
    return grads


@pytest.mark.parametrize(("name", "rule"), [("DC0", "copy"), ("RI", "forecast2")])
def test_a_gradient_is_of_its_step_alone(name: str, rule: str) -> None:
    unet = small_pipeline().unet.requires_grad_(False)
    owner = type("Owner", (), {"unet": unet})
    stock = guided(unet, ddim())
    for mode, whole in (("P1", True), ("P3", False)):
        scheduler = ddim()
        with inherit(unet, plan_for(owner, name, mode, STEPS, rule), scheduler=scheduler) as handle:
            grads = guided(unet, scheduler)
            held = [t for each in handle._runs.latest.cache.values() for t in each.values()]
            assert not any(t.requires_grad for t in held)
        assert torch.equal(grads[0], stock[0]) and all(grad.isfinite().all() and grad.any() for grad in grads)
        assert all(torch.equal(a, b) for a, b in zip(grads, stock, strict=True)) == whole


def test_a_gradient_after_steps_in_inference_mode() -> None:
    unet, scheduler = small_pipeline().unet, ddim()
    context = torch.randn(1, 7, 16)
    with inherit(unet, plan_for(type("Owner", (), {"unet": unet}), "RI", "P6", STEPS), scheduler=scheduler):
        scheduler.set_timesteps(STEPS)
        with torch.inference_mode():
            unet(torch.randn(1, 4, 16, 16), scheduler.timesteps[0], context)
        x = torch.randn(1, 4, 16, 16, requires_grad=True)
        unet(x, scheduler.timesteps[1], context).sample.mean().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("given", [{}, {"encoder_hidden_states": None}])
def test_a_unet_without_text_states_is_refused_in_one_sentence(given: dict[str, Any]) -> None:
    unet = make_unet()
    sample = torch.randn(2, 4, 16, 16)
    with torch.no_grad(), inherit(unet, InheritancePlan(Architecture.of(unet), 1)) as handle:
        handle.begin(1)
        with pytest.raises(ModelError, match=r"without text states.*give it encoder_hidden_states"):
            unet(sample, 5, **given)
        found = unet(sample, 5, torch.ones(2, 7, 16)).sample
    with torch.no_grad():
        assert torch.equal(found, unet(sample, 5, torch.ones(2, 7, 16)).sample)


def test_another_scheduler_than_the_plan_names_is_refused_when_it_comes_later() -> None:
    from dataclasses import replace

    pipe = small_pipeline()
    plan = replace(plan_for(pipe, "DC0", "P3", STEPS), scheduler="DPMSolverMultistepScheduler")
    with inherit(pipe, plan):
        put = pipe.scheduler
        first = draw(pipe, 0)
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(put.config)
        with pytest.raises(PlanError, match=r"plan is for DPMSolverMultistep.* the scheduler given is Euler"):
            draw(pipe, 0)
        pipe.scheduler = put
        assert torch.equal(draw(pipe, 0), first)
