"""A checkpoint as a policy that is served. The only file of this folder that imports torch."""

from functools import partial
from pathlib import Path
from typing import Any

from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.inference.torch_policy import PolicyCompute, load_compute
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.wire.protocol import Schema
from dipole.policy.checkpoint import export_terms, find_checkpoint
from dipole.policy.runtimes.exported import ExportedPolicy

WARM_UP_CALLS = 3


def load_served(terms: FromCheckpoint, forget_after: float) -> ServedPolicy:
    """What a server offers of a checkpoint, warmed up. forget_after: see ServedPolicy.

    Raises CheckpointError and ConfigError.
    """
    spec, compute = load_compute(terms)
    policy: Any = compute.policy
    for _ in range(WARM_UP_CALLS):
        seen = policy.fake_observation(1)
        compute(WARM_UP, {name: value[0].cpu().numpy() for name, value in seen.items()})
    dtypes = {name: str(feature.dtype) for name, feature in policy.features.observation.items()}
    schema = Schema(spec, dtypes, _fingerprint(policy, terms))
    return ServedPolicy(schema, partial(PolicyCompute, policy, terms.seed), forget_after)


def _fingerprint(policy: Any, terms: FromCheckpoint) -> str:
    """Of the weights, and the part of a mixture whose numbers they give: the same wherever, and in
    whatever runtime, they are computed."""
    if isinstance(policy, ExportedPolicy):
        source = policy.schema.get("source", {})
    else:
        found = find_checkpoint(Path(terms.checkpoint))
        source = export_terms(found, terms.weights, terms.part)["source"]
    return "/".join(filter(None, (source.get("sha256"), source.get("part"))))
