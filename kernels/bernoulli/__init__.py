"""The log-likelihood of Bernoulli variables given logits, and its derivative; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

log_prob = by_array_type(spec.log_prob)
residual = by_array_type(spec.residual)
