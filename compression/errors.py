"""The one error of the tensor codecs; callers translate it at their border."""


class CompressionError(ValueError):
    """Data cannot be encoded, or bytes from outside are not a valid payload.

    ``reason`` is a short kebab-case name under which a refusal is counted.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Build an error named ``reason``; ``detail`` says what, got and allowed."""
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)
