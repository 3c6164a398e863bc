"""Stages that run at the same time, each in threads of its own: decoding, the network, encoding."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # items that wait between two stages


def map_in(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Like `map`, in the threads of a pool; starts at most `ahead` calls before their results are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


@contextmanager
def stylizing_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads, each with its share of PyTorch's threads."""
    threads = torch.get_num_threads()
    share = max(1, threads // count)
    try:
        with ThreadPoolExecutor(count, "stylize", torch.set_num_threads, (share,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # or threads started later would also get only a share
