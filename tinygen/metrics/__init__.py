"""How good samples are, by judges that never see the model."""

from .recognition import Classifier, classifier

__all__ = ["Classifier", "classifier"]
