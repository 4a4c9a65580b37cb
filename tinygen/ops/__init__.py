"""Differentiable operations, each forward beside its rules. On plain arrays they just run; on tracers they are recorded.

Names and arguments are NumPy's where NumPy has the function. Call them as `ops.exp`, `ops.sum`: some hide Python's own names.
"""

from ..autograd.reverse import broadcast_to, cast, opaque, stop_gradient, sum_to
from . import operators
from .affine import *
from .attention import *
from .convolution import affine_conv2d, conv2d, conv_transpose2d
from .coupling import affine_coupling
from .elementwise import *
from .gate import gate
from .likelihoods import *
from .linalg import *
from .masked_convolution import affine_masked_conv2d, masked_conv2d
from .normalisation import group_norm, layer_norm
from .reductions import *
from .reparameterisation import reparameterise
from .shape import *
