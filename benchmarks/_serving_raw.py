"""The predictor alone, fed from memory: what the service's throughput is set against.

``python benchmarks/_serving_raw.py JOB REPORT MODEL BATCH SECONDS EXPECTED PICTURE…``: runs batches of the pictures,
decoded and prepared beforehand, and writes their embeddings to EXPECTED (npy).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from ppcls.utils.tuning import apply_cpu_tuning

TUNING = apply_cpu_tuning()

import numpy as np

from benchmarks._report import write_report
from benchmarks._workload import Job
from ppcls.data.image import decode_bytes
from ppcls.retrieval.predictor import open_predictor, preprocess


def main() -> None:
    """Do one job."""
    asked, report, model, batch, seconds, expected, *pictures = sys.argv[1:]
    job = Job(**json.loads(Path(asked).read_text()))
    with open_predictor(model, cpu_threads=job.threads) as predictor:
        prepare = preprocess(predictor.model)
        rows = np.stack([prepare(decode_bytes(Path(name).read_bytes())) for name in pictures])
        batches = np.split(rows, range(int(batch), len(rows), int(batch)))
        np.save(expected, np.concatenate([predictor.run(part) for part in batches]))  # which also warms it up
        images, cpu, begin = 0, time.process_time(), time.perf_counter()
        while (spent := time.perf_counter() - begin) < float(seconds):
            part = batches[images // int(batch) % len(batches)]
            predictor.run(part)
            images += len(part)
        cpu = time.process_time() - cpu
        about = f"{predictor.backend} {predictor.version}; {TUNING}"
    write_report(Path(report), about, backend=predictor.backend, rate=images / spent, cpu=cpu / images)


if __name__ == "__main__":
    main()
