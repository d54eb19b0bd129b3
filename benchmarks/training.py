"""Training step of ResNet-50 at 256 x 128, images/s: ours against an equal network and loop in PyTorch.

Task 1 (cross-entropy and triplet) and AD (two views of new and dreamed images, sim-res distillation from a frozen
network). Ours is the real trainer: by itself, as two data-parallel processes, and with the processor tuning off. All
rows run in turn, each in a process of its own, with equal weights and images; equal losses show equal work.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._measure import command

if __name__ == "__main__":
    command(__doc__, {"train": "training step of task 1", "ad": "training step of AD, two views"})
