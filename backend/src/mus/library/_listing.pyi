from collections.abc import Sequence

from mus.library.listing import Listing

def listed(root: bytes, prefixes: Sequence[bytes], suffixes: Sequence[bytes], most: int) -> list[Listing | int]: ...
