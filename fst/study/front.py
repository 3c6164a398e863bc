"""The Pareto front of a search: the trials that no other beats in both style and content, and what to recommend."""

from collections.abc import Sequence
from dataclasses import dataclass

from fst.study.criteria import Scores
from fst.study.space import Candidate

_PAINTED = 0.25  # of the way from the photo to the lowest style distance: with less, a picture is hardly painted


@dataclass(frozen=True)
class Tried:
    """A trial: its scores when it is done, the reason when it failed, neither while it runs."""

    number: int
    candidate: Candidate
    scores: Scores | None = None
    seconds: float = 0.0
    failed: str = ""


def front_of(trials: Sequence[Tried]) -> list[Tried]:
    """The finished trials that no other beats in one objective without losing in the other, nearest to the photo first.

    Of trials with equal scores the first counts.
    """
    done = sorted((t for t in trials if t.scores), key=lambda t: (*distances(t), t.number))
    found: list[Tried] = []
    for trial in done:  # content rises
        if not found or distances(trial)[1] < distances(found[-1])[1]:
            found.append(trial)
    return found


def recommend(front: Sequence[Tried], photo: Scores) -> dict[str, Tried]:
    """Three trials of a front by what they are for; a short front gives the same trial twice.

    `photo` is the nearest to the photo of those that are painted at all, `paint` the nearest to the painting, and
    `balanced` the knee between them: the farthest from the line that joins both, with both objectives scaled to [0, 1]
    (Das 1999, "On characterizing the knee of the Pareto curve").

    Args:
        front: as of `front_of`, at least one trial.
        photo: the scores of the photos as they are. A trial counts as painted from a quarter of the way from their
            style distance to the lowest.
    """
    enough = photo.style - _PAINTED * (photo.style - distances(front[-1])[1])
    kept = [trial for trial in front if distances(trial)[1] <= enough] or list(front[-1:])
    (low, top), (high, bottom) = distances(kept[0]), distances(kept[-1])

    def below_the_line(trial: Tried) -> float:
        content, style = distances(trial)
        return 1 - (content - low) / ((high - low) or 1) - (style - bottom) / ((top - bottom) or 1)

    return {"photo": kept[0], "balanced": max(kept, key=below_the_line), "paint": kept[-1]}


def hypervolume(front: Sequence[Tried], reference: tuple[float, float]) -> float:
    """The area between a front and a point that is worse in both: larger is better (Zitzler & Thiele 1999).

    Args:
        front: as of `front_of`.
        reference: content and style; trials beyond it count for nothing.
    """
    area, style = 0.0, reference[1]
    for content, lower in map(distances, front):
        if content < reference[0] and lower < style:
            area += (reference[0] - content) * (style - lower)
            style = lower
    return area


def no_farther(front: Sequence[Tried], content: float, style: float) -> tuple[Tried | None, Tried | None]:
    """Of a front, the trial nearest to the painting with at most this content distance, and the one nearest to the
    photo with at most this style distance; `None` where there is none."""
    by_content = [trial for trial in front if distances(trial)[0] <= content]
    by_style = [trial for trial in front if distances(trial)[1] <= style]
    return (by_content[-1] if by_content else None), (by_style[0] if by_style else None)


def distances(trial: Tried) -> tuple[float, float]:
    """Content and style distance of a finished trial."""
    assert trial.scores is not None
    return trial.scores.content, trial.scores.style
