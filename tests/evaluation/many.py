"""Run by test_devices.py in processes of its own: evaluate the fake model twice (all is there then), print the integers as JSON.

python many.py OUT [PROCESS COUNT ADDRESS]
"""

import json
import sys

import jax


def main() -> None:
    out, *several = sys.argv[1:]
    if several:
        process, count, address = several
        jax.distributed.initialize(address, int(count), int(process))
    from fakes import FakeModel, FakeSource

    from rein_jax.evaluation.evaluator import evaluate

    sources = {"town": FakeSource(11, broken=[4]), "city": FakeSource(5, size=[(48, 80), (70, 40)], seed=2)}
    for _ in range(2):
        found = evaluate(FakeModel(), sources, crop=32, stride=21, batch=2, boundary=True, panels=2, out=out or None, progress=False)
    numbers = {name: {"confusion": entry["confusion"], "images": entry["images"], "skipped": entry["skipped"],
                      "boundary": found.accumulators[name].total("boundary").tolist(),
                      "calibration": found.accumulators[name].total("calibration").tolist()} for name, entry in found.domains.items()}
    print(json.dumps({"devices": jax.device_count(), "processes": jax.process_count(), "numbers": numbers}))


if __name__ == "__main__":
    main()
