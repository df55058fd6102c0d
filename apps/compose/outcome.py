"""What a job came to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """code: of the process, 0 where all went well.

    score: what a sweep compares and a search optimises; None where there is nothing to compare.
    score_name: what the score is, for a person: "validation loss".
    """

    code: int = 0
    score: float | None = None
    score_name: str = ""

    @classmethod
    def of(cls, returned: "Outcome | int") -> "Outcome":
        """A job may return its exit code alone."""
        return returned if isinstance(returned, Outcome) else cls(returned)
