"""The scheduler's book of what the workers keep in their memory, by name."""

from collections import OrderedDict


class KeptNames:
    """Names within a budget of bytes, least recently used first; one per kind of thing that is kept.

    Args:
        max_bytes: most bytes that each worker keeps.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, int] = OrderedDict()  # bytes by name
        self._dropped: list[str] = []

    def use(self, name: str) -> bool:
        """Whether the workers keep something under this name, which is then the last to be dropped."""
        if name not in self._kept:
            return False
        self._kept.move_to_end(name)
        return True

    def add(self, name: str, num_bytes: int) -> None:
        """The workers keep something under this name, in place of what they had there; 0 bytes: nothing."""
        self._kept.pop(name, None)
        if name in self._dropped:
            self._dropped.remove(name)
        while self._kept and sum(self._kept.values()) + num_bytes > self._max_bytes:
            self._dropped.append(self._kept.popitem(last=False)[0])
        if num_bytes > self._max_bytes:
            self._dropped.append(name)
        elif num_bytes:
            self._kept[name] = num_bytes

    def drop(self, name: str) -> None:
        """The workers are to forget what they may keep under this name."""
        self._kept.pop(name, None)
        self._dropped.append(name)

    def take_dropped(self) -> tuple[str, ...]:
        """Names that the workers are to forget; forgotten here once taken."""
        dropped, self._dropped = tuple(self._dropped), []
        return dropped
