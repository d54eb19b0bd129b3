"""Averages over real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import json, sys
from pathlib import Path
import paddle
from ppcls.engine.device import select_device
from ppcls.engine.distributed import join_group
select_device(["cpu"])
group = join_group()
a = paddle.full([2, 3], float(group.rank + 1))
b = paddle.arange(4, dtype="float32") * (10 ** group.rank)
group.average([a, b])
seed = group.broadcast_int(100 + group.rank)
found = {"a": a.numpy().tolist(), "b": b.numpy().tolist(), "seed": seed, "main": group.is_main}
Path(sys.argv[1], f"{group.rank}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_processes_agree_on_the_mean(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, *launch, str(tmp_path / "worker.py"), str(tmp_path)],
        check=True, env=environment, timeout=180, capture_output=True,
    )  # fmt: skip
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [entry["main"] for entry in found] == [True, False]
    for entry in found:
        assert entry["a"] == [[1.5] * 3] * 2
        assert entry["b"] == [0.0, 5.5, 11.0, 16.5]
        assert entry["seed"] == 100
