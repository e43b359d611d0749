"""Sites of one machine, one after the other: for a rehearsal before hospitals take part, and for tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dml.federation.federated_site import Site
from dml.federation.messages import Message

Listener = Callable[[str, str, str, Message], None]
"""Is given site, direction ("to" or "from"), kind and message."""


def ignore(site: str, direction: str, kind: str, message: Message) -> None:
    """Listen to nothing."""


@dataclass
class LocalSites:
    """Answers by calling each site.

    Attributes
    ----------
    sites : mapping
        By name.
    listen : callable
        Is given every message.
    absent : set of str
        Sites that do not answer at present.
    """

    sites: Mapping[str, Site]
    listen: Listener = ignore
    absent: set[str] = field(default_factory=set)

    def ask(self, kind: str, request: Message) -> dict[str, Message]:
        """Return the answers of all sites that are there."""
        answers = {}
        for name, site in self.sites.items():
            if name not in self.absent:
                self.listen(name, "to", kind, request)
                answers[name] = site.answer(kind, request)
                self.listen(name, "from", kind, answers[name])
        return answers
