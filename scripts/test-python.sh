#!/bin/sh
# The Python package: its own tests, the scenarios, kill rounds with handlers in Python, its examples, and
# whether it installs.
set -eu
. "$(dirname "$0")/lib.sh"

.venv/bin/python -c 'import libmq' 2>/dev/null || { skip "Python: the package is not built"; exit 0; }
python_tool pytest "pytest>=8" || { skip "Python: pytest cannot be installed"; exit 0; }
python_module pytest_timeout "pytest-timeout>=2" || { skip "Python: pytest-timeout cannot be installed"; exit 0; }
for library in pydantic msgspec; do
	python_module $library $library || skip "Python: $library cannot be installed, so that its classes are not tried"
done
python_companions ||
	skip "Python: what the package is used with cannot be installed, so that web servers, containers and uvloop are not tried"

# What Python warns of in its development mode, as a file that was left open, is an error; and nothing hangs for ever.
.venv/bin/python -X dev -W error -m pytest --timeout 300 bindings/python/tests
.venv/bin/python examples/orders/orders.py >"$target/orders-py.log" 2>&1 || { cat "$target/orders-py.log"; die "orders.py failed"; }
tail -n 1 "$target/orders-py.log" | sed "s|^|orders-py: |"

scripts/test-package.sh

driven Python conformance LIBMQ_PLAYER "python .venv/bin/python tests/conformance/python/play.py"
driven "Python on a loop" conformance LIBMQ_PLAYER "python env LIBMQ_PLAY_ASYNC=1 .venv/bin/python tests/conformance/python/play.py"
driven Python kill LIBMQ_KILL_WORKER "Python .venv/bin/python tests/kill/worker.py"
