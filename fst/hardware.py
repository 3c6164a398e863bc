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
        reason = str(error).splitlines()[0]
        raise UserError(f"no device '{name}' on this machine ({reason}); try auto or cpu") from error
    return device


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        # The only way torch tells; absent on builds for other processors.
        tells = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return torch.bfloat16 if any(tell() for tell in tells if tell) else torch.float32
    return torch.float32


def keep_large_blocks() -> None:
    """Tell glibc to keep freed large blocks: it would return every large tensor to the kernel and pay
    the page faults again at the next step (about 5% of a training step). Results are bit-equal."""
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, -1)
    except (OSError, AttributeError):  # another C library, without this habit
        pass


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: on a CUDA device, or else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:  # what getrusage says begins with the parent's peak
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
