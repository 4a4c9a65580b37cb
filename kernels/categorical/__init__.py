"""The log-likelihood of choices among n things given logits, and its gradient; see spec.py for the equations."""

from ..dispatch import by_array_type
from . import spec

log_prob = by_array_type(spec.log_prob)
log_prob_gradient = by_array_type(spec.log_prob_gradient)
