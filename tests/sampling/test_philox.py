"""Random numbers are a pure function of seed, sample and index, and the function is Philox4x32-10."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt._core import testing

MASK = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)  # digits of pi, as Random123 has them


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (1 << 64) - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, 0x299F31D0A4093822, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_the_known_answers_of_random123(counter: tuple[int, ...], key: int, words: tuple[int, ...]) -> None:
    assert tuple(testing.philox(counter, key)) == words


def naive_philox(counter: list[int], key: int) -> list[int]:
    """Salmon, Moraes, Dror and Shaw 2011, section 3.3."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & MASK, key >> 32
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def test_any_counter_and_key_give_what_the_paper_says() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        *counter, low, high = (int(word) for word in rng.integers(0, 1 << 32, 6))
        assert testing.philox(counter, high << 32 | low) == naive_philox(counter, high << 32 | low)


@pytest.mark.parametrize("seed", [0, 1, 1 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("sample", [0, 1, MASK])
@pytest.mark.parametrize("index", [0, 1, MASK, 1 << 32, (1 << 64) - 1])
def test_a_uniform_number_is_the_first_53_bits_of_its_counter(seed: int, sample: int, index: int) -> None:
    words = naive_philox([index & MASK, index >> 32, sample, 0], seed)
    assert testing.uniform(seed, sample, index) == ((words[1] << 32 | words[0]) >> 11) / 2**53


def test_neighbouring_seeds_samples_and_indices_are_independent() -> None:
    count = 4000
    base = np.array([testing.uniform(1, 0, i) for i in range(count)])
    others = [
        np.array([testing.uniform(2, 0, i) for i in range(count)]),
        np.array([testing.uniform(1, 1, i) for i in range(count)]),
        np.array([testing.uniform(1, 0, i + 1) for i in range(count)]),
    ]
    for other in others:
        # The correlation of independent numbers has a standard deviation of 1 / sqrt(count); five of them.
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / count**0.5
    # Kolmogorov-Smirnov: above 2.2 / sqrt(count) once in 8000 times.
    assert np.abs(np.sort(base) - (np.arange(count) + 0.5) / count).max() < 2.2 / count**0.5
