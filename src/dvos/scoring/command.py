"""``dvos score``: against true masks, against counts by hand, or both."""

from __future__ import annotations

from dvos.config.scoring import ScoringSettings
from dvos.formats.importing import take_truth
from dvos.formats.known import is_foreign
from dvos.scoring.hand_counts import HandCounts, compare_counts
from dvos.scoring.score import score
from dvos.scoring.summary import Scores

#: What comes of it: without true masks the agreement of counts alone.
ScoreResult = Scores | HandCounts


def score_command(settings: ScoringSettings) -> ScoreResult:
    """Score predictions as :func:`dvos.scoring.score.score` does, or only compare counts.

    Raises:
        DvosError: As these do.
    """
    if settings.truth is None:
        return compare_counts(settings)
    if is_foreign(settings.truth):
        truth = take_truth(settings.truth, settings.classes, settings.out / "truth")
        settings = settings.model_copy(update={"truth": truth})
    return score(settings)
