"""The benchmark runs, and both of its sides agree (it exits with 1 if not)."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ranking.py"


def test_small_benchmark():
    done = subprocess.run([sys.executable, str(SCRIPT), "--small"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ratio") == 4
    assert done.stdout.count("peak memory") == 2
