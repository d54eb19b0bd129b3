#!/usr/bin/env bash
# Convert an exported model to ONNX, infer with it, compare.
#
#   bash test_tipc/test_paddle2onnx.sh <configuration> [paddle2onnx_infer]
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need main paddle pydantic yaml PIL tqdm
tipc paddle2onnx "$@"
