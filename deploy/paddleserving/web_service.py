"""ReID embeddings through Paddle Serving's own pipeline web service, for hosts that run Paddle Serving 0.9.

Example: python3.9 web_service.py --config config.yml
    then POST to http://127.0.0.1:18080/reid/prediction, as pipeline_http_client.py does.

Decoding and preprocessing are those of evaluation, export and deploy/serving, and so are the words of every answer.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import _path  # noqa: F401

from ppcls.serving.paddle_host import OperatorCodec, read_settings
from ppcls.serving.protocol import ServingError
from ppcls.utils.errors import UserError

NAME = "reid"
"""Of the service, which is the first part of the URL's path, and of its one operator in config.yml."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("-c", "--config", default=str(here / "config.yml"), help="settings (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--opt",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY:VALUE",
        help="change settings, dots go into nested ones: http_port:18081 op.reid.local_service_conf.thread_num:4",
    )
    return parser


def make_service():
    """Paddle Serving's web service around one operator.

    Raises:
        UserError: Paddle Serving is not installed in this Python.
    """
    for package in ("paddle_serving_server", "paddle_serving_client", "paddle_serving_app"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{package} is not installed in {sys.executable}; setup_serving.sh makes a Python that has it"
            )
    from paddle_serving_server.web_service import Op, WebService

    class ReIDOp(Op):
        """base64 images → the graph's input; its output → one string that holds a list of embeddings."""

        def init_op(self):
            self.codec = OperatorCodec(self.model_config)

        def preprocess(self, input_dicts, data_id=0, log_id=0):
            (pairs,) = input_dicts.values()
            try:
                return self.codec.feed(pairs), False, None, ""
            except ServingError as error:
                return None, False, error.err_no, error.err_msg

        def postprocess(self, input_data, fetch_data, data_id=0, log_id=0):
            return self.codec.answer(fetch_data), None, ""

    class ReIDService(WebService):
        def get_pipeline_response(self, read_op):
            return ReIDOp(name=NAME, input_ops=[read_op])

    return ReIDService(name=NAME)


def main(argv=None) -> None:
    args = make_parser().parse_args(argv)
    try:
        settings = read_settings(args.config, args.opt, NAME)
        service = make_service()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    service.prepare_pipeline_config(yml_dict=settings)
    service.run_service()


if __name__ == "__main__":
    main()
