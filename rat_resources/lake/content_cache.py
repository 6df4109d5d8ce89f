"""What keys hold at commits, kept a while: a commit never changes."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock

from rat_resources.lake.refs import Content, Key

SIZE = 4096


class ContentCache:
    """The last contents that were seen; safe for several threads."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.lock = Lock()
        self.seen: OrderedDict[tuple[str, Key], Content | None] = OrderedDict()

    def look_up(self, commit: str, keys: Iterable[Key]) -> dict[Key, Content | None]:
        """What is known of *keys* at *commit*; None for a key that holds nothing."""
        with self.lock:
            return {
                key: self.seen[commit, key]
                for key in keys
                if (commit, key) in self.seen
            }

    def keep(self, commit: str, contents: Mapping[Key, Content | None]) -> None:
        """Remember what keys hold at *commit*."""
        with self.lock:
            for key, content in contents.items():
                self.seen[commit, key] = content
                self.seen.move_to_end((commit, key))
            while len(self.seen) > self.size:
                self.seen.popitem(last=False)
