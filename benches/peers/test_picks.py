"""`python3 -B -m unittest discover -s benches/peers`: what a pick costs is told without what goes round it."""

import unittest

import picks


class Picks(unittest.TestCase):
    FIGURES = {
        "nothing": {3: {"ns": 2.0, "allocations": 0, "instructions": 20}},
        "random": {3: {"ns": 4.5, "allocations": 0, "instructions": 33}},
    }

    def test_what_goes_round_is_taken_off(self):
        self.assertEqual(picks.without(self.FIGURES), {"random": {3: {"ns": 2.5, "allocations": 0, "instructions": 13}}})

    def test_a_line_names_all_three(self):
        _, line = picks.lines(picks.without(self.FIGURES))
        for figure in ("2.5 ns", "13 instr.", "0 alloc."):
            self.assertIn(figure, line)


if __name__ == "__main__":
    unittest.main()
