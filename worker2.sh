#!/bin/sh
# Run worker-2 of the example in this terminal; Ctrl-C ends it.
# Options of ansible-rulebook can be added: ./worker2.sh --verbose
exec "$(dirname "$0")/tools/worker.sh" worker-2 "$@"
