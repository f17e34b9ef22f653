"""Names for sparse concepts of 50,000 images by 1,400 labels: bounded memory, linear time.

The whole size, 16,384 concepts, is that of an SAE on ImageNet. Here it is scaled down along
concepts alone, which are named in parts: memory must not grow from one part to two, and time must
grow no faster than their number.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_IMAGES, WHOLE = 50_000, 16_384
SIZES = (1_024, 2_048)
METRICS = "correlation,cosine,iou,f1_score,inverse_auc,auprc"


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.naming_job", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def test_naming_streams(tmp_path: Path, table: Table) -> None:
    told = []
    for size in SIZES:
        (tmp_path / str(size)).mkdir()
        run(tmp_path / str(size), N_IMAGES, size)
        told.append(json.loads(run("name", tmp_path / str(size), 200, METRICS)))
    few, many = told
    memory = max(one["peak_mb"] for one in told)
    table.within("memory of naming concepts", memory, 2000, "MiB", asked=2e9 / 2**20)
    name = f"naming {SIZES[1]:,} concepts"
    sides = f"{SIZES[0]:,} of them"
    note = f"{WHOLE:,} would take {many['seconds'] * WHOLE / SIZES[1] / 60:.1f} min"
    table.costs(name, many["seconds"], few["seconds"], 2.5, against=sides, note=note)
    table.costs(name, many["peak_mb"], few["peak_mb"], 1.15, against=sides, unit="MiB")
