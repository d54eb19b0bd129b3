"""Try the installed packages once: every import of the main job, three training steps on a toy, a VisualDL record.

Run by the set-up before it calls an environment good, and by the lock tool on each Python version. Prints one line
with the versions, or one line ``error: …`` and exits 1.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from pathlib import Path

PACKAGES = ["numpy", "scipy", "matplotlib", "PIL", "yaml", "pydantic", "safetensors", "tqdm"]
MODULES = [*PACKAGES, "onnx", "onnxruntime", "paddle2onnx", "google.protobuf", "paddle", "visualdl"]


def check_imports() -> str | None:
    """Import each module of the main job; return what is wrong with the first that fails, else None."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except (ImportError, OSError, AttributeError, TypeError) as problem:
            return f"the package {name} is installed but does not import: {problem}"
    return None


def train_a_toy() -> tuple[float, float]:
    """Three SGD steps of convolution + batch norm + linear on random images; returns first and last loss."""
    import numpy as np
    import paddle
    from paddle import nn

    paddle.seed(0)
    paddle.set_device("cpu")
    net = nn.Sequential(
        nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten()
    )
    head = nn.Linear(8, 4)
    optimizer = paddle.optimizer.SGD(0.1, parameters=[*net.parameters(), *head.parameters()])
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((4, 3, 32, 16)).astype("float32"))
    labels = paddle.to_tensor(np.arange(4))
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(head(net(images)), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
    return losses[0], losses[-1]


def write_a_record() -> bool:
    """Write one VisualDL scalar into a temporary folder; True if a record file appeared."""
    from visualdl import LogWriter

    with tempfile.TemporaryDirectory() as folder:
        with LogWriter(folder) as writer:
            writer.add_scalar("smoke", 1.0, 1)
        return any(Path(folder).glob("vdlrecords*"))


def main() -> int:
    """Run the three checks; return the exit status."""
    warnings.simplefilter("ignore")  # the packages' own chatter; a failed check speaks for itself
    problem = check_imports()
    if problem is None:
        first, last = train_a_toy()
        if not last < first:
            problem = f"three training steps did not lower the loss ({first:.4f} to {last:.4f})"
        elif not write_a_record():
            problem = "VisualDL wrote no record file"
    if problem is not None:
        print(f"error: {problem}")
        return 1
    shown = " ".join(f"{name} {sys.modules[name].__version__}" for name in ("paddle", "numpy", "scipy", "PIL"))
    print(f"Python {sys.version.split()[0]}: {shown}, toy loss {first:.4f} to {last:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
