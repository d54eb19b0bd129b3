"""Tables and pictures of a comparison."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppcls.engine.comparison import Settings
from ppcls.engine.comparison import flags as comparison_flags
from ppcls.engine.figures import bars, matrix_heatmap
from ppcls.utils.files import atomic_path, atomic_write_json, atomic_write_text

Results = dict[str, list[dict[str, dict[str, float]]]]


def table(found: Results, first: str, second: str) -> str:
    """Markdown: mAP and R1 on both domains and forgetting, in per cent, mean ± std where there are several seeds.

    Forgetting is what mAP and R1 on the first domain lost since task 1; averages over domains come last.
    """
    head = ["method", f"{first} mAP", f"{first} R1", f"{second} mAP", f"{second} R1", "forgotten mAP", "forgotten R1"]
    rows = ["| " + " | ".join([*head, "mean mAP"]) + " |", "|:--" + "|--:" * (len(head)) + "|"]
    for name, runs in found.items():
        cells = [_cell([run[domain][key] for run in runs]) for domain in (first, second) for key in ("mAP", "R1")]
        if name == "task1":
            cells += ["–", "–"]
            name = f"task 1 ({first} only)"
        else:
            cells += [_cell(forgotten(found, name, first, key)) for key in ("mAP", "R1")]
        cells.append(_cell([(run[first]["mAP"] + run[second]["mAP"]) / 2 for run in runs]))
        rows.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(rows) + "\n"


def forgotten(found: Results, method: str, first: str, key: str) -> list[float]:
    """Loss on the first domain since task 1, per seed, as a fraction of 1 (negative: gained)."""
    return [before[first][key] - after[first][key] for before, after in zip(found["task1"], found[method], strict=True)]


def write(folder: Path, found: Results, first: str, second: str, seeds: Sequence[int]) -> Path:
    """``table.md``, ``results.json`` and the pictures into ``folder``; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "table.md", table(found, first, second))
    atomic_write_json(folder / "results.json", {"seeds": list(seeds), "results": found})
    means = np.array(
        [[100 * np.mean([run[domain]["mAP"] for run in runs]) for domain in (first, second)] for runs in found.values()]
    )
    matrix_heatmap(
        means, list(found), [first, second], "mAP in %", folder / "mAP.png", xlabel="evaluated on", ylabel="after"
    )
    methods = [name for name in found if name != "task1"]
    lost = {name: {key: _mean_std(forgotten(found, name, first, key)) for key in ("mAP", "R1")} for name in methods}
    bars(lost, "percentage points lost", folder / "forgetting.png", title=f"Forgotten on {first}")
    return folder


def page(found: Results, settings: Settings, seeds: Sequence[int], machine: str, seconds: float) -> str:
    """The Markdown page of a comparison: settings, table, pictures, and whether the published order was seen."""
    first, second = settings.first, settings.second
    flags = {
        "data": settings.data,
        "all training": settings.common,
        "task 1": settings.train,
        "joint": settings.joint,
        "dreams": settings.dream,
        "task 2": settings.increment,
    }
    lines = [
        "# Lite benchmark",
        "",
        "Made by `make lite-benchmark`; nothing on this page is typed by hand. The data is synthetic",
        "([lite data](lite_data.md)), so the figures say whether the methods work, not how well they do on real",
        f"cameras. Task 1 is `{first}`, task 2 is `{second}`. After task 1 its images are not used again, but for",
        "`joint`, the upper bound, which trains on both domains from scratch. `finetune` is the lower bound.",
        "",
        f"mAP and R1 in per cent on unseen ids, mean ± standard deviation over seeds {', '.join(map(str, seeds))}.",
        f"Forgotten: what `{first}` lost since task 1, in points. {machine}; {seconds / 60:.0f} minutes of one core.",
        "",
        table(found, first, second),
        *_order(found, first),
        "",
        "![forgetting](images/lite_forgetting.png)",
        "",
        "## Settings",
        "",
        *(f"* {name}: `{' '.join(comparison_flags(options))}`" for name, options in flags.items()),
        "",
        "Dreamed images of the first seed:",
        "",
        "![dreamed images](images/lite_dreamed.png)",
        "",
    ]
    return "\n".join(lines)


#: The published order on the old domain, worst first; each pair is checked.
EXPECTED = (("finetune", "sim-res (GD)"), ("finetune", "res-triangle (GD)"), ("sim-res (GD)", "AD"), ("AD", "joint"))


def _order(found: Results, first: str) -> list[str]:
    lines = ["Published order on the old domain (paired over seeds):", ""]
    for worse, better in EXPECTED:
        gains = [100 * (b[first]["mAP"] - w[first]["mAP"]) for w, b in zip(found[worse], found[better], strict=True)]
        mean, std = float(np.mean(gains)), float(np.std(gains, ddof=1)) if len(gains) > 1 else 0.0
        verdict = "as published" if min(gains) > 0 else "NOT as published" if max(gains) < 0 else "undecided"
        sure = "in every seed" if min(gains) > 0 else f"in {sum(gain > 0 for gain in gains)} of {len(gains)} seeds"
        lines.append(f"* `{worse}` < `{better}`: {mean:+.1f} ± {std:.1f} points of mAP, {sure}: {verdict}")
    return lines


def publish(pictures: Path, target: Path) -> None:
    """Put the two pictures that the page shows beside it, the dreams at half size."""
    from PIL import Image

    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pictures / "forgetting.png", target / "lite_forgetting.png")
    with Image.open(pictures / "dreamed.png") as sheet, atomic_path(target / "lite_dreamed.png") as temporary:
        sheet.convert("RGB").reduce(2).quantize(128).save(temporary, optimize=True)


def gather_pictures(folder: Path, source: Path, runs: Sequence[str]) -> None:
    """Copy the dreamed contact sheet and the rank lists of ``runs`` beside the table."""
    shutil.copyfile(source / "dreams" / "report" / "contact_sheet.png", folder / "dreamed.png")
    for run in runs:
        for picture in sorted((source / run).glob("ranks-*.png")):
            shutil.copyfile(picture, folder / f"{picture.stem}-{run}.png")


def _cell(values: Sequence[float]) -> str:
    mean, std = _mean_std(values)
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {std:.1f}"


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, in per cent."""
    percent = 100 * np.asarray(values)
    return float(percent.mean()), float(percent.std(ddof=1)) if len(percent) > 1 else 0.0
