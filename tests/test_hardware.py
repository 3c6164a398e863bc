import platform
from pathlib import Path

import pytest
import torch

from fst import hardware
from fst.hardware import (
    free_memory,
    give_back_blocks,
    keep_large_blocks,
    lacks_memory,
    peak_memory_mib,
    used_memory,
)


def test_a_container_can_have_what_its_file_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CONTAINER", tmp_path)
    machine = free_memory()
    for name, content in {
        "memory.max": "10000000",
        "memory.current": "9000000",
        "memory.stat": "anon 1000000\nfile 8000000\ninactive_file 5000000\nactive_file 2000000\nshmem 1000000",
    }.items():
        (tmp_path / name).write_text(content + "\n")
    assert free_memory() == 8_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == pytest.approx(machine, rel=0.5)


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere it is measured in the second way only")
def test_peak_memory_is_known_in_a_sandbox_that_does_not_list_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = peak_memory_mib(torch.device("cpu"))
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t1000 kB\n")
    monkeypatch.setattr(hardware, "_STATUS", tmp_path / "status")
    assert peak_memory_mib(torch.device("cpu")) == pytest.approx(listed, rel=0.5)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such habit")
def test_what_glibc_keeps_can_be_given_back() -> None:
    keep_large_blocks()
    try:
        blocks = [torch.ones(1 << 20) for _ in range(64)]  # 256 MiB
        pin = torch.ones(1 << 18)
        del blocks
        kept = used_memory()
        give_back_blocks()
        assert used_memory() < kept - (200 << 20)
        assert float(pin[0]) == 1
    finally:
        keep_large_blocks(False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("allocator config is invalid"), False),
    ],
)
def test_only_a_lack_of_memory_is_one(error: Exception, expected: bool) -> None:
    assert lacks_memory(error) is expected
