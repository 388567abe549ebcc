"""kernels/dropout.h in numpy: which random bits decide which element.

Written from the contract, not from the C++ functions, so that the golden files with dropout on are
a witness of their own.
"""

import numpy as np

MASK32 = np.uint64(0xFFFFFFFF)


def philox4x32_7(counter, key):
    """Seven rounds of Philox4x32. counter: four arrays of uint64 below 2^32; key: two numbers."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(7):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ k0,
            product1 & MASK32,
            (product0 >> np.uint64(32)) ^ c3 ^ k1,
            product0 & MASK32,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & MASK32
        k1 = (k1 + np.uint64(0xBB67AE85)) & MASK32
    return c0, c1, c2, c3


def check_philox():
    """The known answers of the Random123 distribution for philox4x32 with seven rounds."""
    known = [
        ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
        ),
    ]
    for counter, key, answer in known:
        assert tuple(int(word) for word in philox4x32_7(counter, key)) == answer


def threshold(probability):
    # Rounded to nearest; the probability travels as a 32-bit float.
    return int(np.floor(float(np.float32(probability)) * 32768.0 + 0.5)) * 2


def scale(probability):
    return 65536.0 / (65536.0 - threshold(probability))


def _factors(seed, step, site, sequence, group, element, probability):
    """1 / (1 - p) where an element is kept and 0 where it is dropped."""
    zeros = np.zeros_like(group, dtype=np.uint64)
    words = philox4x32_7(
        (group, zeros + np.uint64(sequence), zeros + np.uint64(step), zeros + np.uint64(site)),
        (seed & 0xFFFFFFFF, seed >> 32),
    )
    word = np.choose(element // 2, words)
    value = (word >> (np.uint64(16) * (element % 2).astype(np.uint64))) & np.uint64(0xFFFF)
    return np.where(value >= np.uint64(threshold(probability)), scale(probability), 0.0)


def hidden_factors(seed, step, site, sequence, length, channels, probability):
    """[length, channels]: eight neighbouring channels are a group; groups do not cross rows."""
    position, channel = np.meshgrid(np.arange(length), np.arange(channels), indexing="ij")
    groups_per_row = -(-channels // 8)
    group = (position * groups_per_row + channel // 8).astype(np.uint64)
    return _factors(seed, step, site, sequence, group, channel % 8, probability)


def attention_factors(seed, step, site, sequence, heads, length, probability):
    """[heads, query, key]: a group is what one lane of a warp holds of a 16 x 16 tile."""
    head, query, key = np.meshgrid(
        np.arange(heads), np.arange(length), np.arange(length), indexing="ij"
    )
    tiles = -(-length // 16)
    tile = (head * tiles + query // 16) * tiles + key // 16
    lane = (query % 8) * 4 + (key % 8) // 2
    group = (tile * 32 + lane).astype(np.uint64)
    element = (key % 16) // 8 * 4 + (query % 16) // 8 * 2 + key % 2
    return _factors(seed, step, site, sequence, group, element, probability)
