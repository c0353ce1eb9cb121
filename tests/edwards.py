"""Just enough of the curve edwards25519 to forge keys and signatures that nobody should accept.

Spec: specs/identity.md#envelope. Affine points, slow and plain (RFC 8032, section 5.1).
"""

import hashlib
from typing import Final

PRIME: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, PRIME) % PRIME
IDENTITY: Final = (0, 1)

Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME) % PRIME
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME) % PRIME
    return x, y


def times(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def x_of(y: int, sign: int) -> int | None:
    """Return the x of a point with this y, or None if there is no such point."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if (x * x - square) % PRIME:
        return None
    return x if x % 2 == sign else -x % PRIME


def encoded(point: Point) -> bytes:
    x, y = point
    return (y | (x % 2) << 255).to_bytes(32, "little")


def torsion() -> tuple[Point, ...]:
    """Return the eight points whose order divides the cofactor."""
    y = 2
    while (x := x_of(y, 0)) is None or times(4 * ORDER, (x, y)) == IDENTITY:
        y += 1
    generator = times(ORDER, (x, y))
    return tuple(times(factor, generator) for factor in range(8))


_base_y = 4 * pow(5, -1, PRIME) % PRIME
_base_x = x_of(_base_y, 0)
assert _base_x is not None
BASE: Final = (_base_x, _base_y)


def forged(key: Point, nonce: Point, secrets: tuple[int, int], message: bytes) -> bytes:
    """Return a signature for a key and a nonce that may have parts of small order.

    `secrets` are the scalars of key and nonce; their small-order parts are up to luck.
    """
    (a, r), encoded_nonce = secrets, encoded(nonce)
    digest = hashlib.sha512(encoded_nonce + encoded(key) + message).digest()
    s = (r + int.from_bytes(digest, "little") * a) % ORDER
    return encoded_nonce + s.to_bytes(32, "little")
