"""A scorer around another one."""

from anogan_tf import judging, scoring


class Wrapper:
    """A scorer around another one, for pictures larger than its networks take: what it hands on, and what it adds.

    Args:
        scorer: The scorer of images of the networks' size.
    """

    def __init__(self, scorer):
        self.scorer = scorer
        self.calibration = None

    @property
    def chunk(self):
        return self.scorer.chunk

    @property
    def smoothing(self):
        return self.scorer.smoothing

    @property
    def seed(self):
        return self.scorer.seed

    def score_batches(self, data):
        """As `score`, a few images at a time; memory stays flat."""
        return scoring.score_batches(self, data)

    def calibrate(self, data, alpha=0.05):
        """Sets the thresholds from normal images that nothing was learned from, see `scoring.calibrate`."""
        scoring.calibrate(self, data, alpha)

    def test(self, data, threshold=None, *, results_dir=None, pictures=100):
        """Scores labelled images, decides and measures, see `judging.test`; unpacks to results, threshold, accuracy."""
        return judging.test(self, data, threshold, results_dir=results_dir, pictures=pictures)


def unwrapped(scorer):
    """The scorer that holds the networks: the one inside a `Wrapper`, else itself."""
    return scorer.scorer if isinstance(scorer, Wrapper) else scorer
