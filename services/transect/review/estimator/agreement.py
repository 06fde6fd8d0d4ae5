"""Agreement of two people who decided on the same items. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """`agreed` of `items` decided alike; `kappa` is None where one verdict alone was ever given."""

    items: int
    agreed: int
    kappa: float | None

    @property
    def share(self) -> float:
        """The share decided alike."""
        return self.agreed / self.items


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement | None:
    """The agreement of two people's verdicts on the same items, and Cohen's kappa; None without items.

    Cohen 1960, Educ. Psychol. Meas. 20: 37-46: (observed - expected) / (1 - expected) agreement.
    """
    if not pairs:
        return None
    alike = sum(a == b for a, b in pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[verdict] * second[verdict] for verdict in first) / len(pairs) ** 2
    kappa = None if expected == 1 else (alike / len(pairs) - expected) / (1 - expected)
    return Agreement(len(pairs), alike, kappa)
