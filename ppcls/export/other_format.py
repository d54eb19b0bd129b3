"""Writes a graph in a format that the calling process cannot: ``python -m ppcls.export.other_format``.

Paddle settles its format at import, so this runs as a child with the other setting. It reads one JSON object from
standard input: ``checkpoint``, ``wanted`` (what :func:`load_checkpoint` takes), ``shape`` (what :func:`build_embedder`
takes after the network) and ``folder``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ppcls.utils.errors import UserError
from ppcls.utils.tuning import apply_cpu_tuning, import_paddle_quietly


def write_in_child(request: dict[str, Any], file_format: str) -> None:
    """Have a child process load a checkpoint and write its graph.

    Raises:
        UserError: what the child said.
    """
    from ppcls.export.inference import PIR_FLAG, last_line, model_file, run_python

    flags = {PIR_FLAG: "1" if file_format == "json" else "0"}
    done = run_python(["-m", "ppcls.export.other_format"], flags, json.dumps(request))
    if done.returncode or not (Path(request["folder"]) / model_file(file_format)).is_file():
        raise UserError(f"cannot write a .{file_format} model: {last_line(done.stderr).removeprefix('error: ')}")


def main() -> int:
    """Do what standard input asks for; the exit status."""
    request = json.load(sys.stdin)
    apply_cpu_tuning()
    import_paddle_quietly()
    import paddle

    from ppcls.engine.checkpoint import load_checkpoint
    from ppcls.export.embedder import build_embedder
    from ppcls.export.inference import PIR_FLAG, write_graph
    from ppcls.export.old_operators import restore_operators

    if not paddle.get_flags(PIR_FLAG)[PIR_FLAG]:
        restore_operators()
    try:
        net = load_checkpoint(request["checkpoint"], **request["wanted"]).net
        write_graph(*build_embedder(net, **request["shape"]), Path(request["folder"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
