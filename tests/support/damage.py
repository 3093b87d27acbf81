"""Accidents that happen to the bytes of a file."""

import numpy as np

FOREIGN = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"PK\3\4",
    b"\0" * 64,
    b"zoo-store 1 4096 ab\n",
    b"[" * 10**5,
)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one accident of a random kind."""
    size = len(content)
    start = int(rng.integers(size))
    end = start + int(rng.integers(1, 1 + max(1, size // 8)))
    part = rng.integers(256, size=end - start, dtype=np.uint8).tobytes()
    flipped = bytes([content[start] ^ (1 << int(rng.integers(8)))])
    kinds = [
        content[:start] + flipped + content[start + 1 :],
        content[:start] + bytes([content[start] ^ 0xFF]) + content[start + 1 :],
        content[:start] + part + content[end:],
        content[:start] + b"\0" * (end - start) + content[end:],
        content[:start],
        content[start:],
        content[:start] + content[end:],
        content[:start] + part + content[start:],
        content + part,
        content[:start] + content[end : 2 * end - start] + content[start:end],
        FOREIGN[int(rng.integers(len(FOREIGN)))],
    ]
    # A single bit or byte is what no reader notices by itself: as often as all the rest.
    weights = np.array([5.0, 5.0] + [1.0] * (len(kinds) - 2))
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
