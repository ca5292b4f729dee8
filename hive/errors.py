"""The one error that a person sees: what is wrong, and what to do."""


class HiveError(Exception):
    """Ends the command with exit code 1.

    Args:
        what: what is wrong, naming the field.
        fix: what to do about it.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"ERROR: {self.what}\nFIX: {self.fix}"


class HiveErrors(HiveError):
    """Several at once."""

    def __init__(self, errors: list[HiveError]) -> None:
        super().__init__(errors[0].what, errors[0].fix)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)
