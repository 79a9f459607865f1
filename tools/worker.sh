#!/bin/sh
# A worker of the example: worker.sh WORKER_ID [ansible-rulebook option ...]
# Uses the database of EDA_HA_POSTGRES_DSN, else an embedded server that all
# workers share and that stops with the last of them.
set -eu
id=$1
shift
cd "$(dirname "$0")/.."

has_ha='import importlib.metadata as m; m.version("ansible-rulebook-ha")'
if python3 -c "$has_ha" 2>/dev/null; then
    python=python3
else
    # As make demo does it. Two workers may be started at the same moment.
    if command -v flock >/dev/null; then
        flock .venv.lock make -s --no-print-directory venv >&2
    else
        make -s --no-print-directory venv >&2
    fi
    python=.venv/bin/python
    # ansible-rulebook finds ansible-galaxy by PATH.
    PATH=$PWD/.venv/bin:$PATH
    export PATH
fi

exec "$python" -m ansible_rulebook.ha.embedded run -- \
    ansible-rulebook --rulebook example_ha_rulebook.yml -S tests/sources \
    --ha-uuid 6b1f2c9e-8a54-4d0c-9a3b-5a7c1f0e2d48 --ha-worker-id "$id" "$@"
