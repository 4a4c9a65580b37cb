r"""How good samples are, by judges that never see the model.

    question                                    answer                                  best              file
    are they like the data, all in all?         frechet_distance(real, samples)         0                 frechet.py
                                                kernel_distance(real, samples)          0, without bias   kernel_distance.py
    can the two be told apart?                  told_apart(real, samples)               1/2               neighbours.py
    is each one good?                           precision_recall(...).precision         its floor         neighbours.py
                                                density_coverage(...).density           1                 neighbours.py
    are they as diverse as the data?            precision_recall(...).recall            its floor         neighbours.py
                                                density_coverage(...).coverage          its floor         neighbours.py
    is each of a class, and all classes there?  inception_style_score(probabilities)    the data's        score.py
    are all modes there?                        modes_captured(samples, modes, std)     all               modes.py
    are they new?                               copying(training, held_out, samples)    1/2               memorisation.py
                                                distance_to_nearest(training, samples)  the data's        memorisation.py
    how probable are the data?                  nats, perplexity, annealed              the entropy       likelihood.py
    does a probability mean what it says?       calibration_error(p, outcomes)          0                 calibration.py
                                                likelihood_calibration(data, samples)   0                 calibration.py
    what would real data get?                   floor(metric, real, rng)                                  floor.py
    does the figure depend on n?                against_sample_count(metric, ...)                         floor.py

Distances between images mean more in features than in pixels: `classifier(images).features(x)` (recognition.py), of a network
trained here on the same data. Say so beside each figure, with the number of samples and the floor: with other features or
another n it is another figure.
"""

from .calibration import LikelihoodCalibration, calibration_error, likelihood_calibration
from .floor import Spread, against_sample_count, floor
from .frechet import frechet_distance, frechet_of_gaussians
from .kernel_distance import KernelDistance, cubic_kernel, kernel_distance
from .likelihood import Figure, annealed, nats, perplexity
from .memorisation import copying, distance_to_nearest
from .modes import Modes, modes_captured
from .neighbours import DensityCoverage, Nearest, PrecisionRecall, density_coverage, nearest, precision_recall, told_apart
from .recognition import Classifier, classifier
from .score import inception_style_score

__all__ = [
    "Classifier", "DensityCoverage", "Figure", "KernelDistance", "LikelihoodCalibration", "Modes", "Nearest", "PrecisionRecall",
    "Spread", "against_sample_count", "annealed", "calibration_error", "classifier", "copying", "cubic_kernel",
    "density_coverage", "distance_to_nearest", "floor", "frechet_distance", "frechet_of_gaussians", "inception_style_score",
    "kernel_distance", "likelihood_calibration", "modes_captured", "nats", "nearest", "perplexity", "precision_recall",
    "told_apart",
]  # fmt: skip
