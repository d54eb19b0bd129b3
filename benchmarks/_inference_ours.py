"""Our side of the inference comparison: the real export, and the real predictors on what it wrote.

``python benchmarks/_inference_ours.py JOB REPORT BACKEND FOLDER`` measures one backend of the model in FOLDER;
BACKEND ``export`` makes that model, ``paddle-plain`` is Paddle without oneDNN.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from ppcls.utils.tuning import apply_cpu_tuning

TUNING = apply_cpu_tuning()

import numpy as np

from benchmarks import _inference_work as work
from benchmarks._report import write_report
from benchmarks._workload import Job
from ppcls.retrieval.predictor import open_predictor

MODEL = "model"
CLASSES = 10


def export(job: Job, folder: Path) -> dict[str, object]:
    """Checkpoint with drawn weights → exported model, and the training network's own answers.

    Returns:
        The backend that "auto" takes of it.
    """
    import paddle

    from benchmarks._ours import network
    from ppcls.configs.export import ExportOptions
    from ppcls.engine.checkpoint import CHECKPOINT, save_checkpoint
    from ppcls.export import export_model

    net = network(job, CLASSES)
    save_checkpoint(folder / CHECKPOINT, net, 1, {"depth": job.depth, "height": job.height, "width": job.width})
    export_model(ExportOptions(ckpt=str(folder), save_inference_dir=str(folder / MODEL), onnx=True))
    net.eval()
    with paddle.no_grad():
        parts = [net.backbone(paddle.to_tensor(part))[2].numpy() for part in np.split(work.images(job), 8)]
    work.write_reference(folder, np.concatenate(parts))
    with open_predictor(folder / MODEL) as predictor:
        return {"auto": predictor.backend}


def main() -> None:
    """Do one job."""
    asked, report, backend, place = sys.argv[1:]
    job, folder = Job(**json.loads(Path(asked).read_text())), Path(place)
    if backend == "export":
        write_report(Path(report), TUNING, **export(job, folder))
        return
    name, _, plain = backend.partition("-")
    with open_predictor(folder / MODEL, name, cpu_threads=job.threads, enable_mkldnn=not plain) as predictor:
        measured = work.measure(job, folder, predictor.run)
        write_report(Path(report), f"{name} {predictor.version}; {TUNING}", **measured)


if __name__ == "__main__":
    main()
