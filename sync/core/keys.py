"""Keys of a fleet (docs/FORMATS.md, section 1).

All come from one 32-byte root by BLAKE3 derive_key (BLAKE3 paper, section 6.2) with one context string each.
"""

from dataclasses import dataclass, field

from blake3 import blake3

from sync.core.errors import BadInput

ROOT_SIZE = 32

_CONTEXT = "tcfs 2025-01 {} v1"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of key epoch 0. Equal roots give equal keys; repr shows none of them."""

    root: bytes = field(repr=False)
    chunk_id: bytes = field(repr=False)
    content_id: bytes = field(repr=False)
    chunker_seed: int = field(repr=False)  # 1 to 2**63 - 1
    chunk_cipher: bytes = field(repr=False)
    objects: bytes = field(repr=False)
    check: bytes = field(repr=False)  # stands in fleet.json: tells a wrong key from a right one, and nothing else

    @staticmethod
    def from_root(root: bytes) -> "Keys":
        """BadInput unless root is 32 bytes."""
        if len(root) != ROOT_SIZE:
            raise BadInput(f"a fleet key is {ROOT_SIZE} bytes, not {len(root)}")

        def derive(purpose: str) -> bytes:
            return blake3(root, derive_key_context=_CONTEXT.format(purpose)).digest()

        # 63 bits, because pyfastcdc doubles it within 64; 0 would mean "no seed" to it.
        seed = int.from_bytes(derive("chunker seed")[:8], "big") >> 1 or 1
        return Keys(
            root=root,
            chunk_id=derive("chunk id"),
            content_id=derive("content id"),
            chunker_seed=seed,
            chunk_cipher=derive("chunk cipher"),
            objects=derive("objects cipher"),
            check=derive("key check"),
        )


def new_root(random: bytes) -> bytes:
    """The root of a new fleet from 32 random bytes; BadInput for any other number of bytes."""
    if len(random) != ROOT_SIZE:
        raise BadInput(f"a new fleet key needs {ROOT_SIZE} random bytes")
    return random
