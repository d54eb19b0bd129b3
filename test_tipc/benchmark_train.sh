#!/usr/bin/env bash
# Speed of training: one run with the profiler, one without, and the figures of the second.
#
#   bash test_tipc/benchmark_train.sh <configuration> benchmark_train [<dynamic>_bs<N>_<fp32|fp16|null>_DP_<N1C1|N1C2>]
#
# BENCHMARK_LOG_DIR: where the folders index/, profiling_log/ and train_log/ go.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need main paddle pydantic yaml PIL tqdm
tipc benchmark "$@"
