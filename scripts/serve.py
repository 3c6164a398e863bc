"""Styles over HTTP: one file to start from, not a product. It needs `pip install -e '.[service]'`.

    python scripts/serve.py udnie the_scream_realtime [--port 8000] [--device auto]
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/stylize?style=udnie' > painted.jpg

A worker stylizes the pictures one after another. Where more than `--waiting` are there, others are refused with status
503; those that take too long are answered with 504. `/styles`, `/health` and `/metrics` (for Prometheus) tell the rest.
It has no passwords and no TLS: to others it is served through a proxy that has them.
"""

import argparse
import asyncio
import io
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fst.errors import RunError, UserError, one_line, run_script
from fst.hardware import keep_large_blocks, used_memory
from fst.inference.stylizer import Stylizer
from fst.pictures import encode_image, read_image

_GONE = 499  # a status that only /metrics shows: the client went away while it sent the picture


class Refused(Exception):  # noqa: N818 (an answer)
    """An answer other than a picture."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Service:
    """Answers requests. Pictures wait for the worker of the device; everything else is answered at once.

    Args:
        stylizers: by the names that requests use, all on one device.
        most_bytes: of an upload.
        most_pixels: of a picture, checked before it is decoded.
        waiting: pictures that may wait, including those that are stylized.
        patience: seconds that a request may take.
    """

    def __init__(
        self,
        stylizers: Mapping[str, Stylizer],
        most_bytes: int = 20 << 20,
        most_pixels: int = 4_000_000,
        waiting: int = 64,
        patience: float = 30.0,
    ) -> None:
        self._stylizers, self._most_bytes, self._most_pixels = stylizers, most_bytes, most_pixels
        self._waiting, self._patience = waiting, patience
        self._worker = ThreadPoolExecutor(1, "worker")
        self._inside = 0  # requests for pictures at this moment
        self._answers: Counter[int] = Counter()  # by status
        self._seconds = 0.0  # of all pictures that were sent
        routes = [Route("/stylize", self._answer, methods=["POST"])]
        routes += [Route(f"/{name}", getattr(self, f"_{name}")) for name in ("styles", "health", "metrics")]
        self.app = Starlette(routes=routes)

    async def _styles(self, request: Request) -> Response:
        return JSONResponse(list(self._stylizers))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"waiting": self._inside}, 200 if self._inside < self._waiting else 503)

    async def _metrics(self, request: Request) -> Response:
        lines = [f'fst_requests_total{{status="{status}"}} {count}' for status, count in sorted(self._answers.items())]
        lines += [f"fst_seconds_total {self._seconds:.3f}", f"fst_waiting {self._inside}"]
        return PlainTextResponse("\n".join([*lines, f"fst_memory_bytes {used_memory()}", ""]))

    async def _answer(self, request: Request) -> Response:
        start = time.monotonic()
        try:
            response = Response(await self._stylize(request), media_type="image/jpeg")
            self._seconds += time.monotonic() - start
        except Refused as refused:
            headers = {"Retry-After": "1"} if refused.status == 503 else None
            response = JSONResponse({"error": one_line(refused)}, refused.status, headers)
        except ClientDisconnect:
            response = Response(status_code=_GONE)
        self._answers[response.status_code] += 1
        return response

    async def _stylize(self, request: Request) -> bytes:
        stylizer = self._stylizers.get(name := request.query_params.get("style", ""))
        if stylizer is None:
            raise Refused(404, f"no style '{name}'; there are {', '.join(self._stylizers)}")
        if self._inside >= self._waiting:
            raise Refused(503, "too many pictures are waiting; try again")
        self._inside += 1
        try:
            async with asyncio.timeout(self._patience):
                upload = await self._read(request)
                work = partial(self._work, stylizer, upload)
                return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except TimeoutError as error:  # a picture that still waits is not begun
            raise Refused(504, f"not done in {self._patience:g} seconds") from error
        finally:
            self._inside -= 1

    async def _read(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > self._most_bytes:
                raise Refused(413, f"more than {self._most_bytes} bytes")
        return b"".join(parts)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._most_pixels:
            raise UserError(f"the upload has {width}×{height} pixels; the most are {self._most_pixels}")

    def _work(self, stylizer: Stylizer, upload: bytes) -> bytes:
        try:
            stylized = stylizer(read_image(Path("the upload"), file=io.BytesIO(upload), check_size=self._check_size))
        except UserError as error:  # no picture, too small or too large
            raise Refused(422, str(error)) from error
        except RunError as error:
            raise Refused(507, str(error)) from error
        encode_image(stylized, buffer := io.BytesIO(), ".jpg")
        return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styles", nargs="+", metavar="STYLE", help="as after fst stylize -s")
    parser.add_argument("--host", default="127.0.0.1", help="default: for this machine only")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto", help="as in `fst stylize`")
    parser.add_argument("--waiting", type=int, default=64, help="pictures that may wait; default 64")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds that a request may take; default 30")
    arguments = parser.parse_args()
    keep_large_blocks()
    stylizers = {name: Stylizer(name, arguments.device) for name in arguments.styles}
    service = Service(stylizers, waiting=arguments.waiting, patience=arguments.patience)
    uvicorn.run(service.app, host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    run_script(main)
