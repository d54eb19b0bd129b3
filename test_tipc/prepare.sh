#!/usr/bin/env bash
# Make what a chain needs: the Python environment, synthetic data; check what cannot be made.
#
#   bash test_tipc/prepare.sh <configuration> <MODE>
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need main paddle pydantic yaml PIL tqdm
if [ "${2:-}" = serving_infer ]; then
    need serving fastapi uvicorn
fi
tipc prepare "$@"
