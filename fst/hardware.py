"""The machine: its devices, its fast number format, and its memory."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from fst.errors import UserError

_CONTAINER = Path("/sys/fs/cgroup")  # the limits of the container that the process runs in, if any (cgroup v2)
_STATUS = Path("/proc/self/status")  # of this process, on Linux
# Texts of errors for lack of memory, for which these runtimes have no error class.
_ALLOCATION_FAILED = (
    "DefaultCPUAllocator: can't allocate memory",  # PyTorch on a CPU
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",  # cuDNN, cuBLAS
    "std::bad_alloc",  # OpenVINO, ONNX Runtime
    "Failed to allocate memory for requested buffer",  # ONNX Runtime
)


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
        # torch has no public function for this; these are missing in builds for other processors.
        tells = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return torch.bfloat16 if any(tell() for tell in tells if tell) else torch.float32
    return torch.float32


def keep_large_blocks(keep: bool = True) -> None:
    """Make glibc keep large blocks that were freed. By default it returns each to the kernel, and the page faults of
    the next allocation take about 5% of a training step. Results do not change.

    It holds for the whole process. The commands call it; `Stylizer` does not, but a program that uses it may.

    Args:
        keep: `False` restores glibc's default, for comparison.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30 if keep else 128 << 10)
        libc.mallopt(m_trim_threshold, -1 if keep else 128 << 10)


def give_back_blocks() -> None:
    """Give the freed memory that glibc still holds back to the kernel; until then it counts as used."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def free_memory() -> int:
    """Free bytes of the host's memory: of the machine, or of the container's share."""
    free = psutil.virtual_memory().available
    try:
        limit = (_CONTAINER / "memory.max").read_text().strip()
        used = int((_CONTAINER / "memory.current").read_text())
        held = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
    except OSError:
        return free
    if limit == "max":
        return free
    reclaimable = sum(int(held.get(key, 0)) for key in ("inactive_file", "active_file"))  # the kernel's file cache
    return max(0, min(free, int(limit) - used + reclaimable))


def free_cuda_memory(device: torch.device) -> int:
    """Free bytes of a CUDA device's own memory."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for its next tensors
    return torch.cuda.mem_get_info(device)[0] + kept


def used_memory() -> int:
    """Bytes of the host's memory that this process holds."""
    return psutil.Process().memory_info().rss


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: on a CUDA device, or else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # What getrusage says begins with the parent's peak, and psutil does not tell. Some sandboxes lack the line.
    with suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of any of the runtimes means that there was not enough memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error) for text in _ALLOCATION_FAILED
    )
