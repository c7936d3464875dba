"""`python3 -B -m unittest discover -s benches/peers`: how far the figure of `everything` can be trusted."""

import random
import unittest

import everything


class Interval(unittest.TestCase):
    def test_noise_widens_it_and_pairs_narrow_it(self):
        def width(noise, pairs):
            chance = random.Random(7)
            low, high = everything.interval([chance.gauss(1.05, noise) for _ in range(pairs)])
            self.assertLess(low, 1.05)
            self.assertGreater(high, 1.05)
            return high - low

        self.assertLess(width(0.1, 400), width(0.1, 25))
        self.assertLess(width(0.02, 100), width(0.1, 100))


if __name__ == "__main__":
    unittest.main()
