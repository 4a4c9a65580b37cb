r"""Are samples new, or copies of training examples? Their distance to the nearest one, beside that of examples held out.

    distance = mean over samples of min_i |y - x_i|                                        0 for copies
    copying  = P(min_i |y - x_i| < min_i |h - x_i|),  y a sample, h held out               1 for copies, 1/2 if y is like h

A low distance alone says nothing: it is low for good samples as well. Data that the model never saw, held out from the same
distribution, are no nearer to the training examples than chance has it; so samples should not be either. And samples nearer
than that (copying above 1/2) are suspect however good they look, while bad samples are far from everything (below 1/2).

Source: Meehan et al. 2020, *A non-parametric test to detect data-copying in generative models*.
"""

from .neighbours import nearest
from .points import points, share_below


def distance_to_nearest(training, samples):
    """mean over samples y of min_i |y - x_i|: training (n, ...), samples (m, ...). ValueError for NaN or other shapes.

    The more training examples, the lower: compare it with that of held-out data to the same training examples.
    """
    training, samples = points("distance_to_nearest", training=training, samples=samples)
    return float(nearest(samples, training).distance.mean())


def copying(training, held_out, samples):
    """P(a sample is nearer to its nearest training example than a held-out example to its own), as near ones counted half.

    Each (n, ...), of any n. From 0 to 1, and 1/2 on average if samples are distributed as what is held out: this is the
    statistic of Mann and Whitney. ValueError for NaN or other shapes.
    """
    training, held_out, samples = points("copying", training=training, held_out=held_out, samples=samples)
    of_held_out, of_samples = (nearest(x, training).distance for x in (held_out, samples))
    return float(share_below(of_samples, of_held_out).mean())
