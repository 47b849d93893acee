"""What `bench doctor` looks at besides model and tasks: Python, packages against each other, devices, their speed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bench.plan import registry

OK, NOTE, BAD = STATES = ("ok", "note", "bad")
PROJECT = "posttrain-bench"
SHOWN = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface-hub")
DRIVERS = {"12": 525, "13": 580}  # the oldest driver of a CUDA release
QUERY = "index,name,driver_version,memory.total,memory.free"
MEGA = 2**20
PRODUCTS = 8  # of which the fastest counts
LISTED = 3  # faults of one kind that a line names


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands (one of STATES), what was found, and the command that mends it."""

    name: str
    state: str
    text: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


# --- packages ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    """What the project asks for: of Python, of packages, and of packages by extra."""

    python: str
    base: Sequence[Requirement]
    extras: Mapping[str, Sequence[Requirement]]


def declared() -> Declared:
    """From the source tree's pyproject.toml, else from the installed distribution."""
    file = registry.ROOT / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == PROJECT:
            optional = project["optional-dependencies"].items()
            extras = {name: [Requirement(text) for text in texts] for name, texts in optional}
            return Declared(project["requires-python"], [Requirement(text) for text in project["dependencies"]], extras)
    about, wanted = metadata.metadata(PROJECT), [Requirement(text) for text in metadata.requires(PROJECT) or ()]
    base = [r for r in wanted if applies(r)]
    names = about.get_all("Provides-Extra") or []
    extras = {name: [r for r in wanted if r not in base and applies(r, name)] for name in names}
    return Declared(about["Requires-Python"] or "", base, extras)


def applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def faults_of(wanted: Sequence[Requirement]) -> list[str]:
    """What is missing or of another version, a phrase each."""
    faults = []
    for requirement in wanted:
        version = installed(requirement.name)
        asked = f"{requirement.name}{requirement.specifier}"
        if version is None:
            faults.append(f"{asked} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name} {version} instead of {asked}")
    return faults


def listed(texts: Sequence[str]) -> str:
    more = [f"{len(texts) - LISTED} more"] if len(texts) > LISTED else []
    return ", ".join([*texts[:LISTED], *more])


def packages() -> Iterator[Finding]:
    """Python and packages against what the project declares, packages against each other, extras."""
    project = declared()
    version = platform.python_version()
    good = SpecifierSet(project.python).contains(version, prereleases=True)
    yield Finding("python", OK if good else BAD, f"{version}, declared {project.python}", "" if good else "python3.11")
    faults = faults_of(project.base)
    shown = ", ".join(f"{name} {installed(name)}" for name in SHOWN if installed(name))
    again = "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in project.base if faults_of([r]))
    yield Finding("packages", BAD if faults else OK, listed(faults) or shown, again if faults else "")
    yield between(project)
    yield extras(project)


def between(project: Declared) -> Finding:
    """What the installed packages ask of each other, as their own metadata says."""
    own = {requirement.name for requirement in project.base}
    others = {requirement.name for wanted in project.extras.values() for requirement in wanted}
    faults: dict[str, list[str]] = {}
    for name in sorted(own | others):
        if installed(name) is None:
            continue
        wanted = [r for r in map(Requirement, metadata.requires(name) or ()) if applies(r)]
        if found := faults_of(wanted):
            faults[name] = found
    if not faults:
        return Finding("together", OK, "the installed packages have what they ask of each other")
    texts = [f"{name}: {fault}" for name, found in faults.items() for fault in found]
    return Finding("together", BAD if own & set(faults) else NOTE, listed(texts), "pip check")


def extras(project: Declared) -> Finding:
    """Which extras are there; one that is there in part or in another version is worth a note."""
    whole, partly, absent = [], [], []
    for name, wanted in sorted(project.extras.items()):
        missing = [r.name for r in wanted if installed(r.name) is None]
        if not faults_of(wanted):
            whole.append(name)
        elif len(missing) == len(wanted) or all("missing" in fault for fault in faults_of(wanted)):
            absent.append(name)
        else:
            partly.append((name, faults_of(wanted)))
    text = f"installed: {', '.join(whole) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    if partly:
        text = f"{listed([f'{name}: {listed(faults)}' for name, faults in partly])}; {text}"
    one = partly[0][0] if partly else ""
    return Finding("extras", NOTE if partly else OK, text, f"pip install '{PROJECT}[{one}]'" if partly else "")


# --- devices -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """A device as nvidia-smi tells it; bytes."""

    index: int
    name: str
    driver: str
    total: int
    free: int


class DriverFault(Exception):
    """nvidia-smi is there and does not say what is asked."""


def gpus() -> list[Gpu]:
    """The GPUs of this machine, none without nvidia-smi."""
    rows = ask_driver("--query-gpu=" + QUERY)
    try:
        return [Gpu(int(i), name, driver, int(total) * MEGA, int(free) * MEGA) for i, name, driver, total, free in rows]
    except ValueError:
        raise DriverFault(f"nvidia-smi answers '{rows[0]}'") from None


def ask_driver(query: str) -> list[list[str]]:
    """The rows of an answer of nvidia-smi; none where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverFault(f"nvidia-smi does not answer: {error}") from None
    if done.returncode != 0:
        raise DriverFault(f"nvidia-smi ended with {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def memory() -> tuple[int, int]:
    """Bytes of main memory: all, and free for new programs, within what a container allows."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free, file = total, Path("/proc/meminfo")
    if file.is_file():
        lines = dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = (group / "memory.max", group / "memory.current")
    if limit.is_file() and limit.read_text(encoding="utf-8").strip().isdigit():
        most = int(limit.read_text(encoding="utf-8"))
        total, free = min(total, most), min(free, most - int(used.read_text(encoding="utf-8")))
    return total, free


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices(where: str) -> Iterator[Finding]:
    """The GPUs with their driver, free memory and other programs on them; without one, cores and memory."""
    try:
        found, others = gpus(), ask_driver("--query-compute-apps=gpu_uuid,pid,used_memory")
    except DriverFault as fault:
        yield Finding("devices", BAD, str(fault), "nvidia-smi")
        found, others = [], []
    total, free = memory()
    here = {"cores": cores(), "memory": total, "memory_free": free, "gpus": [asdict(gpu) for gpu in found]}
    text = f"{cores()} cores, {total / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB free"
    if not found:
        yield Finding("devices", OK, f"no accelerator: CPU, {text}", facts=here)
        return
    yield Finding("devices", OK, f"{len(found)} GPUs; {text}", facts=here)
    busy = f"{len(others)} other programs on the GPUs"
    for gpu in found:
        line = f"{gpu.name}, driver {gpu.driver}, {gpu.free / 1e9:.1f} of {gpu.total / 1e9:.1f} GB free"
        state, fix = (NOTE, "nvidia-smi") if others and gpu.free < 0.9 * gpu.total else (OK, "")
        yield Finding(f"gpu {gpu.index}", state, f"{line}; {busy}" if state == NOTE else line, fix)
    yield torch_sees(found[0].driver, where)


def torch_sees(driver: str, where: str) -> Finding:
    """Whether torch can use the GPU that is there: its CUDA release against the driver."""
    import torch

    release = torch.version.cuda
    if release is None:
        fix = "pip install --force-reinstall torch (from an index with CUDA builds)"
        return Finding("cuda", BAD, f"torch {torch.__version__} has no CUDA, so the GPU is not used", fix)
    oldest = DRIVERS.get(release.partition(".")[0], 0)
    if int(driver.partition(".")[0]) < oldest:
        text = f"driver {driver} is older than CUDA {release} of torch {torch.__version__} takes ({oldest})"
        return Finding("cuda", BAD, text, f"install a driver from {oldest} on, or a torch for an older CUDA")
    if not torch.cuda.is_available():
        return Finding(
            "cuda", BAD, f"torch {torch.__version__} finds no device", "python -c 'import torch; torch.zeros(1).cuda()'"
        )
    return Finding("cuda", OK, f"CUDA {release}, used: {where}")


def matmul(where: str) -> Finding:
    """The rate of matrix products, on one thread of a CPU, the best of a few."""
    import torch

    size, dtype, kind = 8192, torch.bfloat16, "bfloat16"
    if where == "cpu":
        size, dtype, kind = 1024, torch.float32, "float32, one thread"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, seconds = torch.ones(size, size, device=where, dtype=dtype), []
    for _ in range(PRODUCTS):
        begin = perf_counter()
        (a @ a)[0, 0].item()  # waits for the product
        seconds.append(perf_counter() - begin)
    torch.set_num_threads(threads)
    rate = 2.0 * size**3 / min(seconds)
    return Finding("products", OK, f"{rate / 1e9:,.0f} GFLOP/s ({kind})", facts={"flops_per_second": rate})
