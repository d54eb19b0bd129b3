"""The PyTorch side of the inference comparison: an equal network with equal weights, as written or compiled.

``python benchmarks/_inference_torch.py JOB REPORT HOW FOLDER``, HOW being ``eager``, ``compiled``, or ``frozen``
(the compiler also folds the weights into the code, which only inference allows). FOLDER holds the training network's
answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _inference_work as work
from benchmarks._report import write_report
from benchmarks._torch_peer import Net
from benchmarks._workload import Job


class Embedder(torch.nn.Module):
    """Trunk, mean pooling and neck, without the classifier, with the drawn weights."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.parts = Net(job, 1).backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts["bn"](self.parts["base"](x).mean((2, 3)))


def main() -> None:
    """Do one job."""
    asked, report, how, folder = sys.argv[1:]
    job = Job(**json.loads(Path(asked).read_text()))
    torch.set_num_threads(job.threads)
    net = Embedder(job).eval().requires_grad_(False)
    if how != "eager":
        import torch._inductor.config as inductor

        inductor.freezing = how == "frozen"
        net = torch.compile(net, dynamic=False)  # a program for each batch size: the fastest it offers

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    write_report(Path(report), f"torch {torch.__version__}, {how}", **work.measure(job, Path(folder), run))


if __name__ == "__main__":
    main()
