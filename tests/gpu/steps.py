"""`steps.py PRECISION`: three training steps of the quick start's model from random weights; losses and a digest, in JSON."""

import hashlib
import json
import sys

import jax
import numpy as np

from rein_jax import configuration
from rein_jax.bench.step import Prepared

run = Prepared(configuration.load("configs/quickstart.py", ("data.crop=(128,128)", f"precision={sys.argv[1]}", "train.batch=2")))
losses = [float(run.step()["loss"]) for _ in range(3)]
trained = run.placed.state.trainable
digest = hashlib.sha256(b"".join(np.asarray(trained[name]).tobytes() for name in sorted(trained))).hexdigest()
print(json.dumps({"device": jax.default_backend(), "losses": losses, "digest": digest, "flash": "cudnn$fmha" in run.program.as_text()}))
