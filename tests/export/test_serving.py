"""Models in the form that Paddle Serving reads."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from ppcls.configs.exported import (
    ExportedModel,
    GraphFile,
    InputSpec,
    OutputSpec,
    SourceSpec,
    read_exported,
    write_exported,
)
from ppcls.configs.paddle_serving import ConvertOptions
from ppcls.export.serving import TYPES, ServingConfig, Variable, _message_class, convert_for_serving, describe
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest_file

OUTPUT = "save_infer_model/scale_0.tmp_0"

TEXT = """\
feed_var {
  name: "x"
  alias_name: "x"
  is_lod_tensor: false
  feed_type: 1
  shape: 3
  shape: 256
  shape: 128
}
fetch_var {
  name: "save_infer_model/scale_0.tmp_0"
  alias_name: "features"
  is_lod_tensor: false
  fetch_type: 1
  shape: 2048
}
"""

SERIALISED = bytes.fromhex(
    "0a120a017812017818002001280328800228800112310a1e736176655f696e6665725f6d6f64656c2f7363616c655f302e746d705f30"
    "1208666561747572657318002001288010"
)
"""SerializeToString() of the same message by general_model_config_pb2 of paddle-serving-client 0.9.0."""


@pytest.fixture
def exported(tmp_path):
    """A folder as tools/export_model.py leaves it, with graphs of no meaning."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in ("inference.pdmodel", "inference.json"):
        (folder / name).write_bytes(b"graph " + OUTPUT.encode() + name.encode())
    (folder / "inference.pdiparams").write_bytes(b"weights")
    write(folder)
    return folder


def write(folder, kinds=("inference.json", "inference.pdmodel"), **changes):
    graphs = [
        GraphFile(
            kind="paddle",
            model=name,
            params="inference.pdiparams",
            digests={each: digest_file(folder / each) for each in (name, "inference.pdiparams")},
        )
        for name in kinds
    ]
    parts = {
        "input": InputSpec(height=256, width=128),
        "output": OutputSpec(name=OUTPUT, feature_dim=2048),
        "source": SourceSpec(checkpoint="c", digest="0", epoch=1, arch={}, classes_dropped=0),
        "graphs": [*graphs, GraphFile(kind="onnx", model="inference.onnx")],
    }
    write_exported(folder, ExportedModel(**{**parts, **changes}))


def options(folder, **changes):
    targets = {"serving_server": str(folder.parent / "server"), "serving_client": str(folder.parent / "client")}
    return ConvertOptions(**{"dirname": str(folder), **targets, **changes})


def test_text_and_bytes_are_paddle_servings(exported):
    config = describe(read_exported(exported))
    assert config.text() == TEXT
    assert config.serialised() == SERIALISED
    assert text_format.Parse(config.text(), _message_class()()).SerializeToString() == SERIALISED
    assert _message_class().FromString(SERIALISED).fetch_var[0].shape == [2048]


@pytest.mark.parametrize(
    ("dtype", "number"), [("int64", 0), ("float32", 1), ("int32", 2), ("uint8", 7), ("string", 20)]
)
def test_type_numbers(dtype, number):
    text = ServingConfig((Variable("a", "b", dtype, (-1, 4, -1)),), ()).text()
    assert text == (
        f'feed_var {{\n  name: "a"\n  alias_name: "b"\n  is_lod_tensor: false\n  feed_type: {number}\n  shape: 4\n}}\n'
    )
    assert TYPES[dtype] == number


def test_a_type_without_number():
    with pytest.raises(UserError, match="no element type float8"):
        ServingConfig((Variable("a", "b", "float8", ()),), ()).text()


def test_folders_hold_what_the_servers_look_for(exported):
    convert_for_serving(options(exported))
    server, client = exported.parent / "server", exported.parent / "client"
    assert sorted(path.name for path in client.iterdir()) == [
        "serving_client_conf.prototxt",
        "serving_client_conf.stream.prototxt",
    ]
    assert sorted(path.name for path in server.iterdir()) == [
        "inference.pdiparams",
        "inference.pdmodel",
        "inference.yml",
        "serving_server_conf.prototxt",
        "serving_server_conf.stream.prototxt",
    ]
    for path in (server / "serving_server_conf", client / "serving_client_conf"):
        assert path.with_suffix(".prototxt").read_text() == TEXT
        assert path.with_suffix(".stream.prototxt").read_bytes() == SERIALISED
    assert (server / "inference.pdmodel").read_bytes() == (exported / "inference.pdmodel").read_bytes()
    assert [graph.model for graph in read_exported(server).graphs] == ["inference.pdmodel"]


def test_an_earlier_conversion_is_replaced_whole(exported):
    convert_for_serving(options(exported))
    stale = exported.parent / "server" / "older.pdmodel"
    stale.write_bytes(b"the local predictor would load the first of two")
    convert_for_serving(options(exported, fetch_alias_names="prediction", feed_alias_names="image"))
    assert not stale.exists()
    text = (exported.parent / "client" / "serving_client_conf.prototxt").read_text()
    assert 'alias_name: "prediction"' in text and 'alias_name: "image"' in text and 'name: "x"' in text
    assert not [path for path in exported.parent.iterdir() if path.name.startswith(".")]


def test_a_json_graph_only_on_demand(exported):
    write(exported, ["inference.json"])
    with pytest.raises(UserError, match=r"\.pdmodel graphs only; .*tools/export_model.py .* --format pdmodel"):
        convert_for_serving(options(exported))
    convert_for_serving(options(exported, allow_json=True))
    assert (exported.parent / "server" / "inference.json").is_file()


def test_show_proto_writes_nothing(exported, capsys):
    convert_for_serving(options(exported, show_proto=True))
    assert capsys.readouterr().out == TEXT
    assert [path.name for path in exported.parent.iterdir()] == ["exported"]


def changed(folder):
    (folder / "inference.pdmodel").write_bytes(b"another graph " + OUTPUT.encode())


def other_output(folder):
    write(folder, output=OutputSpec(name="no_such_output", feature_dim=2048))


def preprocessing(folder):
    write(folder, input=InputSpec(height=256, width=128, layout="NHWC"))


def foreign(folder):
    (folder.parent / "server").mkdir()
    (folder.parent / "server" / "thesis.doc").write_text("years of work")


def another_export(folder):
    (folder.parent / "server").mkdir()
    (folder.parent / "server" / "inference.pdmodel").write_text("the only copy")


@pytest.mark.parametrize(
    ("spoil", "flags", "said"),
    [
        (None, {"dirname": "nowhere"}, "nowhere holds no exported model"),
        (None, {"model_filename": "other.pdmodel"}, r"no Paddle graph other.pdmodel; .* inference.json, inference.pdm"),
        (None, {"params_filename": "other"}, "the weights of inference.pdmodel are inference.pdiparams"),
        (None, {"fetch_alias_names": "a,b"}, "--fetch-alias-names 'a,b': .*one name"),
        (None, {"feed_alias_names": ""}, "--feed-alias-names ''"),
        (lambda folder: (folder / "inference.pdiparams").unlink(), {}, "inference.pdiparams is missing"),
        (changed, {}, "its digest differs"),
        (other_output, {}, "has no output no_such_output"),
        (preprocessing, {}, "without --preprocess-in-graph"),
        (foreign, {}, "files of another kind .thesis.doc."),
        (another_export, {}, "files of another kind .inference.pdmodel."),
    ],
)
def test_mistakes_leave_everything_as_it_was(exported, spoil, flags, said):
    if spoil is not None:
        spoil(exported)
    before = {path: path.read_bytes() for path in exported.parent.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=said):
        convert_for_serving(options(exported, **flags))
    assert {path: path.read_bytes() for path in exported.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("which", ["serving_server", "serving_client"])
def test_the_export_itself_is_no_target(exported, which):
    with pytest.raises(UserError, match="holds the exported model itself"):
        convert_for_serving(options(exported, **{which: str(exported)}))
    with pytest.raises(UserError, match="same folder"):
        convert_for_serving(options(exported, serving_server="a", serving_client="./a"))
