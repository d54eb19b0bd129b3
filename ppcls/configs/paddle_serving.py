"""Options of the commands in ``deploy/paddleserving``."""

from __future__ import annotations

from pydantic import model_validator

from ppcls.configs.options import Options, option

_MODEL, _FOLDERS, _NAMES = "model", "folders to write", "names that requests and config.yml use"
_REQUEST, _ANSWER = "request", "answer"


class ConvertOptions(Options):
    """``deploy/paddleserving/convert.py``; every flag also in the spelling of ``paddle_serving_client.convert``."""

    dirname: str = option("inference", "--dirname", help="folder of the exported model", group=_MODEL)
    model_filename: str | None = option(
        None, "--model-filename", "--model_filename", help="graph in it; by default its .pdmodel", group=_MODEL
    )
    params_filename: str | None = option(
        None,
        "--params-filename",
        "--params_filename",
        help="its weights; by default those that belong to the graph",
        group=_MODEL,
    )
    allow_json: bool = option(
        False,
        "--allow-json",
        "--allow_json",
        group=_MODEL,
        help="take a .json graph: for servers whose predictor was taught to look for .json",
    )
    serving_server: str = option(
        "serving_server", "--serving-server", "--serving_server", help="model and its description", group=_FOLDERS
    )
    serving_client: str = option(
        "serving_client", "--serving-client", "--serving_client", help="the description alone", group=_FOLDERS
    )
    feed_alias_names: str | None = option(
        None,
        "--feed-alias-names",
        "--feed_alias_names",
        group=_NAMES,
        help="of the graph's input; by default its own name, which the local predictor insists on",
    )
    fetch_alias_names: str = option(
        "features", "--fetch-alias-names", "--fetch_alias_names", help="of the graph's output", group=_NAMES
    )
    show_proto: bool = option(
        False, "--show-proto", "--show_proto", help="print the description and write nothing", group=_FOLDERS
    )


class ClientOptions(Options):
    """``deploy/paddleserving/pipeline_http_client.py``."""

    url: str = option("http://127.0.0.1:18080/reid/prediction", "--url", help="address of the service", group=_REQUEST)
    image: list[str] = option(
        [], "--image", "--image-dir", "--image_dir", help="image files, or folders of them", group=_REQUEST
    )
    batch_size: int = option(
        16, "-b", "--batch-size", "--batch_size", help="images in a request", group=_REQUEST, ge=1, le=256
    )
    logid: int = option(
        10000, "--logid", help="number of the first request in the server's log", group=_REQUEST, ge=0, lt=2**62
    )
    token_file: str | None = option(
        None, "--token-file", help="file with the bearer token that the service asks for", group=_REQUEST
    )
    timeout: float = option(30.0, "--timeout", help="seconds to wait for each answer", group=_REQUEST, gt=0, le=86400)
    output: str | None = option(
        None, "--output", help="write all embeddings to this .npz or .jsonl file; - prints JSON lines", group=_ANSWER
    )

    @model_validator(mode="after")
    def _complete(self) -> ClientOptions:
        if not self.image:
            raise ValueError("nothing to send: give --image FILE or --image FOLDER")
        if self.output not in (None, "-") and not self.output.endswith((".npz", ".jsonl")):
            raise ValueError(f"--output {self.output}: give a name that ends in .npz or .jsonl, or -")
        return self
