"""Names for sparse concepts of 50,000 images by 1,400 labels: bounded memory, linear time.

The whole size, 16,384 concepts, is that of an SAE on ImageNet. Here it is scaled down along
concepts alone, which are named in parts: memory must not grow from one part to two, and time must
grow no faster than their number.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.benchmark

N_IMAGES, WHOLE = 50_000, 16_384
SIZES = (1_024, 2_048)
METRICS = "correlation,cosine,iou,f1_score,inverse_auc,auprc"


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.naming_job", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def test_naming_streams(tmp_path, capsys):
    told = []
    for size in SIZES:
        (tmp_path / str(size)).mkdir()
        run(tmp_path / str(size), N_IMAGES, size)
        told.append(json.loads(run("name", tmp_path / str(size), 200, METRICS)))
    with capsys.disabled():
        for size, one in zip(SIZES, told, strict=True):
            whole = one["seconds"] * WHOLE / size
            print(
                f"\n{size} concepts: {one['seconds']:.0f} s, {one['peak_mb']:.0f} MB; "
                f"{WHOLE} would take {whole / 60:.1f} min",
                end="",
            )
    assert max(one["peak_mb"] for one in told) < 2_000
    assert told[1]["peak_mb"] < 1.15 * told[0]["peak_mb"]
    assert told[1]["seconds"] < 2.5 * told[0]["seconds"]
