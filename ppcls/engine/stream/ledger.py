"""What is done of a stream: a ``stage.json`` in every stage's folder, and the check that all of it fits together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcls.engine.checkpoint import CHECKPOINT
from ppcls.engine.stream.plan import TRAINING, Stage
from ppcls.inversion import list_images
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json, digest, digest_file

MARKER = "stage.json"
DONE, STARTED, TO_DO = "done", "started", "to do"
_FORMAT = 1


class Ledger:
    """The stages of a stream as they are on disk below ``root``.

    A stage's marker is written when it begins (settings and digests of its inputs) and again when it has ended (what
    it made, with its digest). So work that was begun with other settings, or from another network, is never gone on
    with, and a result whose origin has changed is never taken for a current one.
    """

    def __init__(self, root: str | Path, stages: Sequence[Stage]) -> None:
        self.root = Path(root)
        self.stages = {stage.name: stage for stage in stages}

    def state(self, stage: Stage) -> str:
        """``"done"``, ``"started"`` or ``"to do"``; a done stage that now has more parts counts as started."""
        marker = self._marker(stage)
        if marker is None:
            return TO_DO
        return DONE if marker["done"] and set(stage.parts) <= set(marker["parts"]) else STARTED

    def states(self) -> dict[str, str]:
        """State of each stage by name."""
        return {name: self.state(stage) for name, stage in self.stages.items()}

    def product(self, stage: Stage) -> str:
        """Digest of what a done stage left: its checkpoint, or the names of its dreams; "" for other kinds."""
        marker = self._marker(stage)
        return marker["product"] if marker and marker["done"] else ""

    def check(self, stage: Stage) -> None:
        """Compare a begun stage with what is asked now and with the stages it was made from.

        Raises:
            UserError: other settings, other inputs, a result that was changed or removed although it is still needed.
        """
        marker = self._marker(stage)
        if marker is None:
            return
        folder = self.root / stage.name
        redo = f"use the same as before or another --logs-dir, or remove {folder} to make this stage anew"
        different = _differences(stage.settings, {**_later_options(stage, marker["settings"]), **marker["settings"]})
        if marker["kind"] != stage.kind:
            different = [f"it is to be '{stage.kind}', was '{marker['kind']}'", *different]
        if different:
            raise UserError(f"stage {stage.name} was begun with other options ({'; '.join(different)}); {redo}")
        for name, wanted in self._inputs(stage).items():
            if wanted and marker["inputs"].get(name) != wanted:
                raise UserError(
                    f"stage {stage.name} is stale: it was made from {name} with digest {marker['inputs'].get(name)}, "
                    f"which is now {wanted}; remove {folder} (and every later stage's folder) to make it anew, "
                    f"or put {name} back"
                )
        if marker["done"]:
            self._check_product(stage, marker["product"])

    def begin(self, stage: Stage) -> None:
        """Note what the stage is about to be made from."""
        marker = self._marker(stage) or {"parts": []}
        self._write(stage, marker["parts"], done=False, product="")

    def finish(self, stage: Stage) -> None:
        """Note that the stage is whole.

        Raises:
            UserError: its job left nothing.
        """
        product = self._on_disk(stage)
        if product is None:
            raise UserError(f"stage {stage.name} ended without leaving anything in {self.root / stage.name}")
        before = (self._marker(stage) or {"parts": []})["parts"]
        parts = [*before, *(part for part in stage.parts if part not in before)]
        self._write(stage, parts, done=True, product=product)

    def _check_product(self, stage: Stage, product: str) -> None:
        """Dreams may be gone once they are learned from, a checkpoint too, but a checkpoint may not be another one."""
        readers = [other for other in self.stages.values() if stage.name in other.inputs]
        needed = any(self.state(reader) != DONE for reader in readers)
        if not needed and stage.kind == "dream":
            return
        found = self._on_disk(stage)
        if found == product or (found is None and not needed):
            return
        what = "is gone" if found is None else f"has digest {found}, had {product}"
        raise UserError(
            f"what stage {stage.name} left in {self.root / stage.name} was changed after its end (it {what}); "
            "put it back, or remove that folder and every later stage's to make them anew"
        )

    def _inputs(self, stage: Stage) -> dict[str, str]:
        return {name: self.product(self.stages[name]) for name in stage.inputs}

    def _on_disk(self, stage: Stage) -> str | None:
        folder = self.root / stage.name
        if stage.kind in TRAINING:
            path = folder / CHECKPOINT
            return digest_file(path) if path.is_file() else None
        if stage.kind == "dream":
            names = [path.name for path in list_images(folder)] if folder.is_dir() else []
            return digest("\n".join(names).encode("utf-8")) if names else None
        return ""

    def _write(self, stage: Stage, parts: Sequence[str], *, done: bool, product: str) -> None:
        marker = {
            "format": _FORMAT,
            "kind": stage.kind,
            "done": done,
            "settings": stage.settings,
            "inputs": self._inputs(stage),
            "parts": list(parts),
            "product": product,
        }
        atomic_write_json(self.root / stage.name / MARKER, marker)

    def _marker(self, stage: Stage) -> dict[str, Any] | None:
        path = self.root / stage.name / MARKER
        if not path.is_file():
            return None
        try:
            marker = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not valid JSON ({error}); remove {path.parent} to make it anew") from error
        if not isinstance(marker, dict) or marker.get("format") != _FORMAT:
            raise UserError(f"{path} was written by another version of this command; use a new --logs-dir")
        return marker


def _differences(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    def show(settings: dict[str, Any], key: str) -> str:
        return repr(settings[key]) if key in settings else "absent"

    keys = sorted(now.keys() | before.keys())
    return [f"{key} is {show(now, key)}, was {show(before, key)}" for key in keys if now.get(key) != before.get(key)]


def _later_options(stage: Stage, before: dict[str, Any]) -> dict[str, Any]:
    """Options that the project did not have yet when the stage was begun: their defaults are what was done then."""
    fields = type(stage.options).model_fields
    return {
        key: fields[key].get_default(call_default_factory=True)
        for key in stage.settings.keys() - before.keys()
        if key in fields
    }
