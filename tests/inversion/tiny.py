"""A network of a few thousand weights with the face of a ReIDNet, and a killable job for it.

As a script, ``tiny.py FOLDER EVENT COUNT`` dreams into FOLDER and sends itself SIGKILL at the COUNT-th EVENT.
"""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import paddle
from paddle import nn

from ppcls.inversion import DreamConfig, archive, dream

CONFIG = DreamConfig(steps=(5, 4), height=16, width=8, batch_size=4)
JOB = {"shots": 2, "seed": 3, "snapshot_seconds": 0.0, "progress": False, "jpeg_quality": 90}


class TinyNet(nn.Layer):
    """conv-BN-ReLU-conv-BN-ReLU-pool-neck-linear; weights and statistics depend on ``seed`` alone."""

    def __init__(self, num_classes=5, width=8, seed=0):
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2D(3, width, 3, stride=2, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, stride=2, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.neck = nn.BatchNorm1D(width)
        self.head = nn.Linear(width, num_classes, bias_attr=False)
        rng = np.random.RandomState(seed)
        for name, tensor in sorted(self.state_dict().items()):
            values = rng.standard_normal(tensor.shape) * 0.3
            if tensor.ndim == 1 and ("variance" in name or "weight" in name):
                values = np.abs(values) + 0.5
            tensor.set_value((values * (10 if "head" in name else 1)).astype(np.float32))

    def forward(self, x):
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = nn.functional.relu(self.bn2(self.conv2(x)))
        embedding = self.neck(x.mean(axis=[2, 3]))
        return SimpleNamespace(embedding=embedding, logits=self.head(embedding))


def run(folder, **changes):
    """The same small job every time: 10 images in 3 batches."""
    return dream(TinyNet(), folder, CONFIG, **{**JOB, **changes})


def contents(folder):
    """Relative name → bytes of every file, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def at_event(event, count, action, patch):
    """Call ``action`` at the ``count``-th event: a step, an image about to be written, a batch about to be committed.

    ``patch(module, name, function)`` replaces a function. Returns the callback to give to :func:`run`.
    """
    seen = {"step": 0, "image": 0, "commit": 0}

    def happen(kind):
        seen[kind] += 1
        if kind == event and seen[kind] == count:
            action()

    write, append = archive.atomic_write_bytes, archive.append_line

    def counted_write(path, data):
        happen("image")
        write(path, data)

    def counted_append(path, line):
        happen("commit")
        append(path, line)

    patch(archive, "atomic_write_bytes", counted_write)
    patch(archive, "append_line", counted_append)
    return lambda progress: happen("step")


if __name__ == "__main__":
    paddle.set_device("cpu")
    kill = at_event(sys.argv[2], int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
    run(sys.argv[1], callback=kill)
