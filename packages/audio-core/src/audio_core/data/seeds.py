"""Seeds that do not collide, and an endless shuffled order; both are functions of numbers alone."""

import hashlib

_MASK = 2**64 - 1
_ROUNDS = 6


def mix(*numbers: int) -> int:
    """One seed from several numbers, unrelated to the seeds of their neighbours."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def shuffled(index: int, length: int, seed: int) -> int:
    """The place of `index` in an endless order that holds every number below `length` once an epoch.

    Each epoch has an order of its own. Time and memory do not grow with `length`: nothing is permuted in advance.
    """
    epoch, at = divmod(index, length)
    if length == 1:
        return 0
    digest = hashlib.blake2b(repr((seed, epoch)).encode(), digest_size=8 * _ROUNDS).digest()
    keys = [int.from_bytes(digest[start : start + 8], "little") for start in range(0, len(digest), 8)]
    half = ((length - 1).bit_length() + 1) // 2
    at = _permuted(at, half, keys)
    while at >= length:  # fewer than four times on average: follow the cycle back to a number below `length`
        at = _permuted(at, half, keys)
    return at


def _permuted(number: int, half: int, keys: list[int]) -> int:
    """A permutation of the numbers of 2 * `half` bits: a Feistel network of one round for each key."""
    mask = (1 << half) - 1
    left, right = number >> half, number & mask
    for key in keys:
        x = ((right ^ key) * 0x9E3779B97F4A7C15) & _MASK  # multiply, shift and multiply, as splitmix64 does
        x = ((x ^ x >> 32) * 0xD6E8FEB86659FD93) & _MASK
        left, right = right, left ^ (x >> 32 & mask)
    return left << half | right
