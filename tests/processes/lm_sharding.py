"""One update of DPO on one device and on meshes of eight, for `tests/lm/test_lm_commands.py`: largest differences."""

import functools
import json
import sys

import jax
import numpy as np

from purerl.lm import hub, sharding, training
from purerl.rlhf.direct import direct_loss
from purerl.rlhf.supervised import LearnerHparams

model = hub.load(sys.argv[1])
generator = np.random.default_rng(0)
tokens = generator.integers(3, model.config["vocab_size"], (8, 2, 12)).astype(np.int32)
batch = {
    "tokens": tokens,
    "mask": np.ones(tokens.shape, bool),
    "completion": np.broadcast_to(np.arange(12) > 4, tokens.shape),
    "ref_log_prob": generator.normal(-40, 1, (8, 2)).astype(np.float32),
}
loss_of = functools.partial(direct_loss, loss="dpo")
optimizer = training.adamw(training.Optimization(1e-3, 10))
run = training.program(training.full(model.network), loss_of, LearnerHparams(), optimizer)


def update(params, batch):
    learner = run.begin(params)
    sums = run.add(learner, (), batch, run.zeros(learner, (), batch))
    grads = jax.device_get(sums.grads)
    learner, metrics = run.step(learner, sums)
    return float(metrics["loss/total"]), grads, learner


loss, grads, _ = update(model.params, batch)
report = {}
for fsdp, tp in ((8, 1), (4, 2), (2, 4)):
    mesh = sharding.make_mesh(fsdp, tp)
    params = sharding.place(model.params, model.network.shardings(), mesh)
    found, other, learner = update(params, sharding.spread(batch, mesh))
    moments = [leaf for leaf in jax.tree.leaves(learner.opt_state) if leaf.ndim > 1]
    report[f"{fsdp}x{tp}"] = {
        "loss": abs(found - loss),
        "gradient": max(float(np.abs(grads[name] - other[name]).max()) for name in grads),
        "largest share of a device": max(leaf.addressable_shards[0].data.size / leaf.size for leaf in moments),
    }
print(json.dumps(report))
