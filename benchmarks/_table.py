"""Figures of a speed comparison as text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping


def text(result: Mapping) -> str:
    """A comparison under its title: the machine, one line a row, whether both sides did the same work."""
    lines = [title(result), machine(result["machine"], result["job"]["threads"])]
    lines += _gemm_rows(result) if result["task"] == "gemm" else _step_rows(result)
    return "\n".join([*lines, *_remarks(result)])


def title(result: Mapping) -> str:
    """What was done, how large, how often."""
    job = result["job"]
    if result["task"] == "gemm":
        return f"{result['title']}, {job['gemm']} x {job['gemm']}"
    size = f"ResNet-{job['depth']}, {job['height']} x {job['width']}, batch {job['batch']}"
    return f"{result['title']}: {size}, {result['repeat']} round(s) of {job['steps']} steps"


def machine(about: Mapping, threads: int) -> str:
    """Processor, threads, and the fastest matrix product seen."""
    return f"{about['processor']}, {threads} of {about['cores']} cores, GEMM {about['gemm']:.0f} GFLOP/s"


def markdown(result: Mapping) -> str:
    """The rows of a comparison as a Markdown table under its title."""
    head = "| | images/s, best (median) | to PyTorch, best (median) | GFLOP/s | of GEMM | peak memory |"
    lines = [f"**{title(result)}**", "", head, "|---|" + "---|" * 5]
    for row in result["rows"].values():
        ratio = f"{row['ratio_best']:.2f}× ({row['ratio_median']:.2f}×)" if row["ratio_best"] else "–"
        speed = f"{row['best']:.2f} ({row['median']:.2f}) | {ratio} | {row['gflops']:.0f} | {row['fraction']:.0%}"
        lines.append(f"| {row['label']} | {speed} | {row['peak'] / 2**30:.2f} GiB |")
    return "\n".join([*lines, "", *_remarks(result)])


def gemm_markdown(result: Mapping) -> str:
    """GFLOP/s of the matrix product as a Markdown table."""
    lines = [f"**{title(result)}**", "", "| | GFLOP/s | to PyTorch |", "|---|---|---|"]
    for row in result["rows"].values():
        ratio = f"{row['ratio_best']:.2f}×" if row["ratio_best"] else "–"
        lines.append(f"| {row['label']} | {row['gemm']:.0f} | {ratio} |")
    return "\n".join([*lines, "", *_remarks(result)])


def _gemm_rows(result: Mapping) -> list[str]:
    lines = []
    for row in result["rows"].values():
        ratio = f"{row['ratio_best']:8.2f}x of PyTorch" if row["ratio_best"] else ""
        lines.append(f"{row['label']:32s}{row['gemm']:8.1f} GFLOP/s{ratio}")
    return lines


def _step_rows(result: Mapping) -> list[str]:
    lines = [
        f"{'':32s}{'images/s':>16s}{'ratio to PyTorch':>20s}{'GFLOP/s':>9s}{'of GEMM':>9s}{'memory':>10s}",
        f"{'':32s}{'best':>8s}{'median':>8s}{'best':>12s}{'median':>8s}",
    ]
    for row in result["rows"].values():
        best, median = (f"{row[key]:.2f}x" if row[key] else "-" for key in ("ratio_best", "ratio_median"))
        speed = f"{row['best']:8.2f}{row['median']:8.2f}{best:>12s}{median:>8s}{row['gflops']:9.1f}"
        lines.append(f"{row['label']:32s}{speed}{row['fraction']:9.0%}{row['peak'] / 2**30:6.2f} GiB")
    return lines


def _remarks(result: Mapping) -> list[str]:
    lines, about, found = [], result["machine"], result["losses"]
    if result["no_peer"]:
        lines.append(f"PyTorch skipped: {result['no_peer']}.")
    if found:
        verdict = "agree" if result["agree"] else "DISAGREE"
        ours, peer = (" ".join(f"{value:.4f}" for value in found[side]) for side in ("ours", "peer"))
        lines.append(f"Losses {verdict} (difference {found['difference']:.0e}): ours {ours}, PyTorch {peer}.")
    if (about["others"] or 0.0) > 0.02 * about["cores"]:
        lines.append(f"Other processes kept {about['others']:.1f} cores busy meanwhile: repeat on a quiet machine.")
    return lines
