#!/bin/sh
# Run worker-1 of the example in this terminal; Ctrl-C ends it.
# Options of ansible-rulebook can be added: ./worker1.sh --verbose
exec "$(dirname "$0")/tools/worker.sh" worker-1 "$@"
