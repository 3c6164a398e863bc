"""Less flicker in video: each stylized frame is blended with the one before it, moved by the input's optical flow."""

from typing import NamedTuple

import numpy as np

from fst.inference.video.types import require_opencv

_SHARE = 0.5  # of the frame before, where both show the same: measured, see scripts/README.md
CUT = 0.3  # with less than this part of the picture found again, the scene is another
_FLOW_SIDE = 640  # pixels: the flow of larger frames is computed at this longer side
_LEAST_FLOW_SIDE = 16  # pixels of the shorter one: OpenCV needs 12
_NO_ROWS = np.empty(0)  # for cv2.remap: columns and rows are in one array


class Flow(NamedTuple):
    """Where each pixel of a frame was in the frame before.

    Attributes:
        source: `(H, W, 2)` float32, column and row in pixels.
        visible: `(H, W)` bool, false where the frame before did not show it.
    """

    source: np.ndarray
    visible: np.ndarray


def optical_flow(before: np.ndarray, frame: np.ndarray) -> Flow:
    """The flow (DIS, Kroeger et al. 2016) between two frames, `(H, W, 3)` uint8 RGB.

    A pixel was hidden where the flows forwards and backwards disagree (Sundaram et al. 2010, eq. 5), or outside.
    """
    import cv2

    grey, grey_before = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (frame, before))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, back = (
        dis.calc(one, other, None)  # type: ignore[call-overload]
        for one, other in ((grey_before, grey), (grey, grey_before))
    )
    height, width = grey.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source = np.stack([columns, rows], -1) + back
    there = cv2.remap(forward, source, _NO_ROWS, cv2.INTER_LINEAR)
    length = (there**2).sum(-1) + (back**2).sum(-1)
    agree = ((there + back) ** 2).sum(-1) <= 0.01 * length + 0.5
    inside = ((source >= 0) & (source <= (width - 1, height - 1))).all(-1)
    return Flow(source, agree & inside)


class Steadier:
    """Blends the frames of one video, in their order.

    What stays in place or moves keeps its strokes; what was hidden, and the first frame after a cut, is painted anew.
    """

    def __init__(self) -> None:
        require_opencv()
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, frame: np.ndarray, stylized: np.ndarray) -> np.ndarray:
        """The stylized frame, blended.

        Args:
            frame: the input, `(H, W, 3)` uint8 RGB.
            stylized: `(H', W', 3)` likewise, of the same size for all frames.
        """
        import cv2

        height, width = stylized.shape[:2]
        scale = min(1.0, _FLOW_SIDE / max(height, width))
        size = [max(_LEAST_FLOW_SIDE, round(side * scale)) for side in (width, height)]
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        if self._before is not None:
            flow = optical_flow(self._before[0], small)
            if flow.visible.mean() > CUT:
                stretch = np.array([width, height], np.float32) / np.array(small.shape[1::-1], np.float32)
                source = np.asarray((cv2.resize(flow.source, (width, height)) + 0.5) * stretch - 0.5, np.float32)
                weight = _SHARE * cv2.resize(flow.visible.astype(np.float32), (width, height))[..., None]
                moved = cv2.remap(self._before[1], source, _NO_ROWS, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                blended = weight * moved + (1 - weight) * stylized
                stylized = np.rint(blended).astype(np.uint8)
        self._before = small, stylized
        return stylized
