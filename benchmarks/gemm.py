"""Matrix product of two float32 matrices: GFLOP/s of Paddle as tuned here, untuned, and of PyTorch.

The rate is what the speed of a network's step is set against in the other comparisons.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._measure import command

if __name__ == "__main__":
    command(__doc__, {"gemm": "matrix product"})
