#!/usr/bin/env bash
# Train, evaluate, export and infer with the commands of a configuration.
#
#   bash test_tipc/test_train_inference_python.sh <configuration> <MODE> [GPUID]
#
# MODE: lite_train_lite_infer, lite_train_whole_infer, whole_infer, whole_train_whole_infer.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need main paddle pydantic yaml PIL tqdm
tipc train_infer "$@"
