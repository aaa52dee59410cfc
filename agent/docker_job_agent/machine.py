"""The engine's machine, and the part of it that a job's container may use."""

from __future__ import annotations

import glob
from typing import Any, NamedTuple

from .job import Resources

MIB = 1024 * 1024
ALL_GPUS = -1
GPU_RUNTIME = "nvidia"
LEAST_MEMORY_BYTES = 6 * MIB  # the engine refuses less


class Machine(NamedTuple):
    """Memory and CPUs of the engine's machine, 0 if unknown, and what its engine can limit."""

    memory_bytes: int = 0
    cpus: int = 0
    limits_memory: bool = False
    limits_cpus: bool = False
    has_gpu_runtime: bool = False


class Limits(NamedTuple):
    """The container's bounds, 0 for none, its GPUs, and what the job's log says about them."""

    memory_bytes: int = 0
    cpus: int = 0
    gpus: int = 0
    notes: tuple[str, ...] = ()

    def host_config(self) -> dict[str, Any]:
        """Return the bounds as the engine takes them; with memory there is no swap beyond it."""
        memory = {"Memory": self.memory_bytes, "MemorySwap": self.memory_bytes}
        cpus = {"NanoCpus": self.cpus * 1_000_000_000}
        gpus = {"DeviceRequests": [{"Count": self.gpus, "Capabilities": [["gpu"]]}]}
        return {
            **(memory if self.memory_bytes else {}),
            **(cpus if self.cpus else {}),
            **(gpus if self.gpus else {}),
        }


def read_machine(info: object) -> Machine:
    """Return what the engine's `GET /info` says; one that says nothing can limit nothing."""
    found: dict[str, Any] = info if isinstance(info, dict) else {}
    return Machine(
        memory_bytes=_whole(found.get("MemTotal")),
        cpus=_whole(found.get("NCPU")),
        limits_memory=found.get("MemoryLimit") is True,
        # The engine refuses NanoCpus without these two; it only warns of the other limits.
        limits_cpus=found.get("CpuCfsPeriod") is True and found.get("CpuCfsQuota") is True,
        has_gpu_runtime=GPU_RUNTIME in (found.get("Runtimes") or ()),
    )


def has_gpus(root: str = "") -> bool:
    """Return whether NVIDIA's driver shows a GPU of this machine."""
    return bool(glob.glob(f"{root}/proc/driver/nvidia/gpus/*"))


def _whole(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0


def decide_own_limits(asked: Resources, machine: Machine, *, gpus: bool) -> Limits:
    """Decide the bounds on the instance's own machine: the container gets all but a reserve.

    *gpus*: the machine has some. A job that named an instance type, and no number, bought them all.
    """
    count = asked.gpus or (ALL_GPUS if gpus and machine.has_gpu_runtime else 0)
    if not machine.limits_memory or not machine.memory_bytes:
        note = "this engine cannot limit memory: the container has no limit"
        return Limits(gpus=count, notes=(note,))
    reserve = reserve_bytes(machine.memory_bytes)
    return Limits(memory_bytes=machine.memory_bytes - reserve, gpus=count)


def decide_shared_limits(asked: Resources, machine: Machine) -> Limits:
    """Decide the bounds on an engine that others use too: what the job asked for, or none."""
    notes: list[str] = []
    memory = _memory(asked.memory_mib, machine, notes) if asked.memory_mib else 0
    cpus = _cpus(asked.vcpus, machine, notes) if asked.vcpus else 0
    return Limits(memory, cpus, asked.gpus, tuple(notes))


def reserve_bytes(memory_bytes: int) -> int:
    """Return what a machine keeps for the kernel, the engine, the agent and its docker clients.

    These take some 200 MB. What the kernel keeps for processes, pages and buffers grows with the
    machine.
    """
    return min(max(256 * MIB, memory_bytes * 3 // 100), 2048 * MIB, memory_bytes // 2)


def _memory(asked_mib: int, machine: Machine, notes: list[str]) -> int:
    if not machine.limits_memory:
        notes.append("this engine cannot limit memory: resources.memory_mib is no limit")
        return 0
    asked = asked_mib * MIB
    if machine.memory_bytes and asked > machine.memory_bytes:
        has = machine.memory_bytes // MIB
        notes.append(f"resources.memory_mib is {asked_mib}, this machine has {has} MiB in all")
        return machine.memory_bytes
    return max(asked, LEAST_MEMORY_BYTES)


def _cpus(asked: int, machine: Machine, notes: list[str]) -> int:
    if not machine.limits_cpus:
        notes.append("this engine cannot limit CPUs: resources.vcpus is no limit")
        return 0
    if machine.cpus and asked > machine.cpus:  # the engine refuses more than there are
        notes.append(f"resources.vcpus is {asked}, this machine has {machine.cpus} in all")
        return machine.cpus
    return asked
