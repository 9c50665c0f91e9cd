"""SMTP replies: RFC 5321 §4.2 (form), RFC 2034 and RFC 3463 (enhanced status codes)."""

from typing import NamedTuple


class Reply(NamedTuple):
    """A reply: code, enhanced status code ("" if it has none), lines of text."""

    code: int
    enhanced: str
    text: str

    def octets(self) -> bytes:
        """Return the reply as it is sent; a text of several lines becomes a multiline reply."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if "\n" not in self.text:
            return f"{self.code} {prefix}{self.text}\r\n".encode()
        *lines, last = self.text.split("\n")
        head = "".join([f"{self.code}-{prefix}{line}\r\n" for line in lines])
        return f"{head}{self.code} {prefix}{last}\r\n".encode()

    @property
    def is_positive(self) -> bool:
        """True for 2yz and 3yz."""
        return 200 <= self.code < 400

    @property
    def is_completed(self) -> bool:
        """True for 2yz: the command is completed."""
        return 200 <= self.code < 300

    @property
    def is_transient(self) -> bool:
        """True for 4yz: the same command may succeed later."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        text = self.text.replace("\n", " ")
        return f"{self.code} {self.enhanced} {text}" if self.enhanced else f"{self.code} {text}"
