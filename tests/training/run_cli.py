"""`run_cli.py train ...`: the `rein` command, which here also knows the tiny DINOv2 of tests/use.

Environment: KILL_AT = step at whose line in metrics.jsonl this process sends itself SIGKILL. The loader's worker processes import
this file too, so that nothing is imported at its top but the standard library.
"""

import os
import signal
import sys


def main() -> int:
    import tests.use.tiny  # noqa: F401  registers dinov2_tiny
    from rein_jax.cli.main import main as rein
    from rein_jax.training.metrics import MetricLog

    write, last = MetricLog.write, int(os.environ.get("KILL_AT", "-1"))

    def watched(self, step, kind, values):
        write(self, step, kind, values)
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    MetricLog.write = watched
    return rein(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
