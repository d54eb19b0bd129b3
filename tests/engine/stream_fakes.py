"""Data sets of empty pictures, and jobs that leave text files, to run whole streams in milliseconds."""

import json
from pathlib import Path

from ppcls.configs.lifelong import LifelongOptions
from ppcls.engine.checkpoint import CHECKPOINT
from ppcls.engine.stream.plan import Stage
from ppcls.engine.stream.work import EVALUATION
from ppcls.utils.files import digest


class Killed(BaseException):
    """Stands for SIGKILL inside a job."""


def make_data(root: Path, *names: str, ids: int = 4) -> Path:
    """Market-1501 layouts; train images are 3 bytes, 2 per id."""
    for name in names:
        for split, first in (("bounding_box_train", 1), ("query", 101), ("bounding_box_test", 101)):
            folder = root / name / split
            folder.mkdir(parents=True)
            for pid in range(first, first + ids):
                for camera in (1, 2):
                    (folder / f"{pid:04d}_c{camera}_1.jpg").write_bytes(b"jpg")
    return root


def make_options(tmp_path: Path, *tasks: str, **changes) -> LifelongOptions:
    """A stream over ``tmp_path/data`` into ``tmp_path/logs``."""
    small = {"batch_size": 16, "first_batch_size": 16, "shots": 2, "depth": 18, "seed": 0}
    places = {"data_root": str(tmp_path / "data"), "logs_dir": str(tmp_path / "logs")}
    return LifelongOptions(**{"tasks": list(tasks), **small, **places, **changes})


class FakeWork(dict):
    """Jobs by kind. ``done``: names of the stages that ran; ``kill_at``: dies inside that stage, half of it done."""

    def __init__(self, kill_at: str = ""):
        super().__init__(dict.fromkeys(("start", "train", "finetune", "increment"), self.learn))
        self.update(dream=self.dream, evaluate=self.evaluate)
        self.done: list[str] = []
        self.kill_at = kill_at

    def learn(self, stage: Stage, folder: Path) -> None:
        """A checkpoint that depends on the settings and on everything that was read."""
        before = [self._seen(folder.parent / name) for name in stage.inputs]
        self._maybe_die(stage)
        (folder / CHECKPOINT).write_text(json.dumps([before, stage.settings], sort_keys=True))
        self.done.append(stage.name)

    def dream(self, stage: Stage, folder: Path) -> None:
        teacher = self._seen(folder.parent / stage.inputs[0])
        for pid in range(stage.options.shots):
            (folder / f"{pid}_{digest(f'{teacher}{pid}'.encode())}.jpg").write_bytes(b"dream")
            self._maybe_die(stage)
        self.done.append(stage.name)

    def evaluate(self, stage: Stage, folder: Path) -> None:
        path = folder / EVALUATION
        results = json.loads(path.read_text())["results"] if path.is_file() else {}
        network = self._seen(folder.parent / stage.inputs[0])
        for name in stage.parts:
            if name not in results:
                value = int(digest(f"{network}{name}".encode(), 4), 16) / 16**4
                entry = {"dataset": name, "mAP": value, "cmc": {"1": value / 2}}
                results[name] = [{**entry, "mAP": 9.0, "cmc": {"1": 9.0}}, entry]  # as a mixed set: the mean is last
                path.write_text(json.dumps({"checkpoint": "", "results": results}))
                self.done.append(f"{stage.name}/{name}")
            self._maybe_die(stage)

    def _seen(self, folder: Path) -> list[str]:
        names = sorted(path.name for path in folder.glob("*_*.jpg"))
        return names or [(folder / CHECKPOINT).read_text()]

    def _maybe_die(self, stage: Stage) -> None:
        if stage.name == self.kill_at:
            raise Killed
