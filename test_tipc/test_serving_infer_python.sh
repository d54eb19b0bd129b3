#!/usr/bin/env bash
# Start the HTTP service with an exported model, ask it, compare the answers.
#
#   bash test_tipc/test_serving_infer_python.sh <configuration> serving_infer [GPUID]
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need main paddle pydantic yaml PIL tqdm
need serving fastapi uvicorn
tipc serving "$@"
