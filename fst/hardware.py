"""What this machine is fast at: device, number format, and memory that is not given back too soon."""

import ctypes
import sys
from pathlib import Path

import torch

from fst.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU; anything else is a torch device name.

    Raises:
        UserError: the device does not exist on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _no_device(name) from error
    if device.type == "meta":  # it computes nothing
        raise _no_device(name)
    return device


def _no_device(name: str) -> UserError:
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    return UserError(f"no device '{name}' on this machine; there are auto, {', '.join(there)}")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        # The only way torch tells; absent on builds for other processors.
        tells = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return torch.bfloat16 if any(tell() for tell in tells if tell) else torch.float32
    return torch.float32


def keep_large_blocks(keep: bool = True) -> None:
    """Tell glibc to keep freed large blocks: it would return every large tensor to the kernel and pay
    the page faults again at the next step (about 5% of a training step). Results are bit-equal.

    Args:
        keep: `False` brings glibc's own habit back, for comparison.
    """
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30 if keep else 128 << 10)
        libc.mallopt(m_trim_threshold, -1 if keep else 128 << 10)
    except (OSError, AttributeError):  # another C library, without this habit
        pass


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a CUDA device, or else in all: of the machine, or of the container's share."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10
    except OSError:
        return 4 << 30  # a guess: other systems do not tell without another library
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def used_memory() -> int:
    """Bytes that this process holds in memory."""
    return _status("VmRSS") or 600 << 20  # where the system does not tell: what torch takes


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: on a CUDA device, or else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if peak := _status("VmHWM"):  # what getrusage says begins with the parent's peak
        return peak / 2**20
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def _status(entry: str) -> int | None:
    """An entry of Linux's status of this process, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) << 10
