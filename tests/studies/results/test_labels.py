"""Places of names beside points: the layout itself; tests/dashboard/test_front_labels.py measures it in a browser."""

from __future__ import annotations

import numpy as np

from studies.results.labels import LONGEST, Label, padded, placed_labels, shown


def test_the_same_points_have_the_same_places_and_a_crowd_keeps_the_first() -> None:
    crowd = [Label(1.0 + i / 1e4, 1.0, f"plan {i}", "#000000") for i in range(200)]
    points = np.array([[each.x, each.y] for each in crowd])
    ranges = padded(points[:, 0]), padded(points[:, 1])
    made = placed_labels(crowd, points, ranges, ("#000000", "#FFFFFF"))
    assert made == placed_labels(crowd, points, ranges, ("#000000", "#FFFFFF"))
    assert made[0]["text"] == "plan 0" and 2 <= len(made) <= 16


def test_no_label_without_a_point_and_a_range_where_all_values_are_one() -> None:
    assert placed_labels([], np.empty((0, 2)), ((0, 1), (0, 1)), ("", "")) == []
    low, high = padded(np.array([3.0, 3.0, np.nan]))
    assert low < 3 < high
    assert padded(np.array([])) < (1, 2)


def test_a_label_is_short_and_text_of_a_database_is_text() -> None:
    assert shown("plain@10") == "10"
    assert len(shown("x" * 80)) == LONGEST
    note = placed_labels([Label(0, 0, "<b>me</b>", "#000000")], np.zeros((1, 2)), ((-1, 1), (-1, 1)), ("", ""))[0]
    assert note["text"] == "&lt;b&gt;me&lt;/b&gt;"
