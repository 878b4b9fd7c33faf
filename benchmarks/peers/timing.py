"""What every worker measures alike; standard library only, for each runs in an environment of its own."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any


class Clock:
    """Seconds since it was made: of the wall, and of the processor, which a busy machine lengthens less."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """``seconds`` and ``cpu_seconds``."""
        return {"seconds": time.perf_counter() - self.wall, "cpu_seconds": time.process_time() - self.cpu}


class TimedLoader:
    """Batches of a loader, at most ``most`` a pass, with the cells and the seconds of each whole pass."""

    def __init__(self, loader: Any, most: int | None) -> None:
        self.loader, self.most = loader, most
        self.passes: list[dict[str, float]] = []

    def __iter__(self) -> Iterator[Any]:
        clock, cells = Clock(), 0
        for batch in islice(self.loader, self.most):
            yield batch
            cells += len(batch.pert)
        self.passes.append({"cells": cells, **clock.read()})


def write_measured(folder: Path, threads: int, packages: Sequence[str], **measured: Any) -> None:
    """Write ``measured.json``: what was measured, and the peak memory of this process."""
    facts = {
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
    (folder / "measured.json").write_text(json.dumps(measured | facts, indent=1))
