"""The curves of a training, and how often its drift is measured."""

from __future__ import annotations

from pathlib import Path

from training.curves import curves_figure, draw_curves
from training.held_out import SHARE, Looks


def test_losses_and_drift_are_drawn_by_the_step(tmp_path: Path) -> None:
    draw_curves(tmp_path)
    assert not list(tmp_path.iterdir())
    logs = tmp_path / "checkpoint"
    logs.mkdir()
    (logs / "drift.csv").write_text("step,psnr,low,high\n0,7.9,7,9\n", encoding="utf-8")
    draw_curves(tmp_path)
    before = (tmp_path / "curves.html").read_text(encoding="utf-8")
    head = "step,seconds,rate,loss,task,out,features\n"
    (logs / "losses.csv").write_text(f"{head}20,1.5,0.001,0.61234,0.4,0.1,0.1\n40,3,0.001,0.5,0.3,0.1,0.1\n")
    draw_curves(tmp_path)
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert "0.61234" in page and "0.61234" not in before and "<html" in page


def test_the_panels_are_what_was_logged() -> None:
    figure = curves_figure(
        [{"step": 20.0, "loss": 0.6, "out": 0.2}, {"step": 40.0, "loss": 0.5, "out": 0.1}],
        [{"step": 0.0, "psnr": 8.0, "low": 7.0, "high": 10.0}],
    )
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["loss", "out", "PSNR to the teacher"]
    assert list(traces["out"].x) == [20, 40] and list(traces["out"].y) == [0.2, 0.1]
    drift = traces["PSNR to the teacher"]
    assert (list(drift.y), list(drift.error_y.array), list(drift.error_y.arrayminus)) == ([8], [2], [1])


def measured(steps: int, step: float, look: float) -> list[float]:
    """The progress at which a training of `steps` is measured, from the seconds of a step and of a measurement."""
    looks, seconds, found = Looks(), 0.0, []
    looks.took(0.0, look)  # before the training
    for number in range(1, steps + 1):
        seconds += step
        progress = number / steps
        if looks.due(progress, seconds):
            seconds += look
            looks.took(progress, look)
            found.append(progress)
            assert progress == 1 or look * (len(found) + 1) <= SHARE * seconds
    return found


def test_a_long_training_is_measured_at_every_tenth() -> None:
    assert measured(1000, 1.0, 2.0) == [each / 10 for each in range(1, 11)]


def test_a_short_training_is_measured_at_its_end_alone() -> None:
    assert measured(3, 0.1, 5.0) == [1.0]


def test_between_them_the_measurements_are_as_many_as_a_tenth_of_the_time_holds() -> None:
    found = measured(1000, 0.1, 2.5)  # 100 s hold four, one of them before the training
    assert 3 <= len(found) <= 5 and found[-1] == 1.0
