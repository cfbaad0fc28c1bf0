"""What an ablation trains, and which of it is held against which.

An arm takes rate and alpha from the method that it is ``tuned_as``: noise matched to GNC's has
GNC's size only with GNC's alpha and rate, so that nothing is left that differs but its direction.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ABLATIONS", "Arm", "Contrast", "Design"]


@dataclass(frozen=True)
class Arm:
    """One kind of run.

    Attributes:
        arm: its name in records.
        method: what is trained.
        tuned_as: the method whose rate it takes, and whose alpha where it has one.
        title: in tables.
    """

    arm: str
    method: str
    tuned_as: str
    title: str


@dataclass(frozen=True)
class Contrast:
    """Two arms and what their difference says; the first contrast of a design is the question.

    Attributes:
        a: the arm with what is asked about.
        b: the one without.
        subject: what differs.
    """

    a: str
    b: str
    subject: str


@dataclass(frozen=True)
class Design:
    """An ablation that has a name.

    Attributes:
        name: as on the command line.
        title: of its report.
        tuned: the methods that are tuned, with equal effort.
        arms: what is trained at the choices.
        contrasts: the question, then what helps to read its answer.
        gain: the arms whose difference on validation the size worth knowing is taken from.
        probe: what final runs measure beside their accuracy.
    """

    name: str
    title: str
    tuned: tuple[str, ...]
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    gain: tuple[str, str]
    probe: str

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.arm == name)

    @property
    def pilot(self) -> tuple[str, ...]:
        """The arms that a pilot needs: of the question, and of the gain."""
        question = self.contrasts[0]
        return tuple(dict.fromkeys((question.a, question.b, *self.gain)))


GNC = Design(
    name="gnc",
    title="does the direction of GNC's noise matter, or only its size?",
    tuned=("msgd", "gnc", "rnc", "matched"),
    arms=(
        Arm("gnc", "gnc", "gnc", "GNC"),
        Arm("matched", "matched", "gnc", "matched noise, permuted"),
        Arm("matched-iso", "matched-iso", "gnc", "matched noise, isotropic"),
        Arm("same-rate", "msgd", "gnc", "no noise, at GNC's rate"),
        Arm("none", "msgd", "msgd", "no noise, at its own rate"),
        Arm("rnc", "rnc", "rnc", "RNC, at its own rate and alpha"),
        Arm("matched-own", "matched", "matched", "permuted, at its own rate and alpha"),
    ),
    contrasts=(
        Contrast("gnc", "matched", "the direction of GNC's noise"),
        Contrast("gnc", "matched-iso", "the direction of GNC's noise, against isotropic noise"),
        Contrast("gnc", "matched-own", "its direction, each kind of noise tuned for itself"),
        Contrast("matched", "same-rate", "noise of GNC's size without its direction"),
        Contrast("gnc", "none", "GNC as a whole, each at its own rate"),
        Contrast("rnc", "none", "random noise of a size of its own"),
    ),
    gain=("gnc", "none"),
    probe="noise_alignment",
)

ABLATIONS = {design.name: design for design in (GNC,)}
