"""``deploy/paddleserving/convert.py`` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.configs.exported import ExportedModel, GraphFile, InputSpec, OutputSpec, SourceSpec, write_exported

COMMAND = Path(__file__).resolve().parents[2] / "deploy" / "paddleserving" / "convert.py"


@pytest.fixture
def folder(tmp_path):
    """Run from here: holds an exported model in ``inference``."""
    exported = tmp_path / "inference"
    exported.mkdir()
    (exported / "inference.pdmodel").write_bytes(b"graph with an output called out_0")
    (exported / "inference.pdiparams").write_bytes(b"weights")
    graph = GraphFile(kind="paddle", model="inference.pdmodel", params="inference.pdiparams")
    source = SourceSpec(checkpoint="c", digest="0", epoch=1, arch={}, classes_dropped=0)
    size, output = InputSpec(height=64, width=32), OutputSpec(name="out_0", feature_dim=512)
    write_exported(exported, ExportedModel(input=size, output=output, source=source, graphs=[graph]))
    return tmp_path


def run(folder, *flags):
    return subprocess.run([sys.executable, COMMAND, *flags], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("spelling", ["-", "_"])
def test_flags_in_both_spellings(folder, spelling):
    flags = {
        "dirname": "inference",
        "model_filename": "inference.pdmodel",
        "params_filename": "inference.pdiparams",
        "serving_server": "out/my_server",
        "serving_client": "out/my_client",
        "feed_alias_names": "picture",
        "fetch_alias_names": "vector",
    }
    typed = [part for name, value in flags.items() for part in ("--" + name.replace("_", spelling), value)]
    done = run(folder, *typed)
    assert (done.returncode, done.stderr) == (0, "")
    text = (folder / "out" / "my_client" / "serving_client_conf.prototxt").read_text()
    assert 'alias_name: "picture"' in text and 'alias_name: "vector"' in text and "shape: 512" in text
    assert (folder / "out" / "my_server" / "inference.pdmodel").is_file()


def test_without_flags_it_reads_and_writes_the_usual_folders(folder):
    done = run(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "server: serving_server, client: serving_client\n", "")
    assert {path.name for path in folder.iterdir()} == {"inference", "serving_server", "serving_client"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dirname", "nowhere"], "error: nowhere holds no exported model"),
        (["--model_filename", "x.pdmodel"], "error: inference has no Paddle graph x.pdmodel"),
        (["--serving_server", "inference"], "error: inference holds the exported model itself"),
    ],
)
def test_mistakes_are_one_line(folder, flags, said):
    done = run(folder, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["inference"]
