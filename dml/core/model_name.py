"""Name of predictions in folders, tables and runs: a registered model, and what was added to its predictions.

`teacher`, `abmil-clinical` (fused with age and sex), `student-recalibrated`: keys of the registry are identifiers,
so a hyphen never occurs inside one.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class ModelName:
    """Which predictions.

    Attributes
    ----------
    base : str
        Key of the model registry.
    clinical : bool
        Fused late with age and sex.
    recalibrated : bool
        Level and slope refitted on other patients.

    Examples
    --------
    >>> str(ModelName("abmil", clinical=True))
    'abmil-clinical'
    >>> ModelName.parse("student-recalibrated")
    ModelName(base='student', clinical=False, recalibrated=True)
    """

    base: str
    clinical: bool = False
    recalibrated: bool = False

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read a name as it is written in folders and tables.

        Raises
        ------
        ValueError
            If something other than `clinical` and `recalibrated` follows the key.
        """
        base, *added = text.split("-")
        if unknown := set(added) - {"clinical", "recalibrated"}:
            raise ValueError(f"model name {text!r}: unknown addition {', '.join(sorted(unknown))}")
        return cls(base, "clinical" in added, "recalibrated" in added)

    def __str__(self) -> str:
        added = [name for name in ("clinical", "recalibrated") if getattr(self, name)]
        return "-".join([self.base, *added])

    def with_clinical(self) -> "ModelName":
        """Return the name of the same model fused with age and sex."""
        return replace(self, clinical=True)

    def with_recalibration(self) -> "ModelName":
        """Return the name of the same model recalibrated."""
        return replace(self, recalibrated=True)
