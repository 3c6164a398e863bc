import itertools

from fst.study.search_report import _LETTER, _labels


def test_labels_of_points_that_lie_close_together_stand_apart_with_a_line_to_their_points() -> None:
    points = [(300.0 + 9 * number, 200.0 + 5 * number) for number in range(5)]
    wanted = list(zip(points, ("johnson", "johnson_all", "gatys", "novak_all", "deep"), strict=True))
    labels = _labels(wanted, points)
    assert sorted(text for _, _, text, _ in labels) == sorted(text for _, text in wanted)
    boxes = [(left, base - 13, left + _LETTER * len(text), base + 3) for left, base, text, _ in labels]
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    lines = {text: line for _, _, text, line in labels}
    assert lines["johnson"] == "", "there is room beside it"
    assert any(lines.values())
    starts = {text: "{},{}".format(*place) for place, text in wanted}
    assert all(line.startswith(starts[text]) for text, line in lines.items() if line)
