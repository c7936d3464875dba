"""divan's tables are read as they are."""

import unittest

import micro

TEXT = """\
Timer precision: 20 ns
micro                   fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ event_step           355.2 ns      │ 750.9 ns      │ 382.7 ns      │ 406.7 ns      │ 100     │ 400
├─ pick_random                        │               │               │               │         │
│  ├─ 3                 52.46 ns      │ 53.39 ns      │ 52.77 ns      │ 52.85 ns      │ 100     │ 6400
│  ╰─ 10000             89.72 ns      │ 3.534 µs      │ 119.7 ns      │ 150 ns        │ 100     │ 100
╰─ route                              │               │               │               │         │
   ├─ 10                1.221 µs      │ 9.703 µs      │ 1.291 µs      │ 1.522 µs      │ 100     │ 100
   ╰─ 100000            2.192 µs      │ 17.58 µs      │ 3.194 µs      │ 3.344 µs      │ 100     │ 100
"""


class Micro(unittest.TestCase):
    def test_groups_and_units(self):
        self.assertEqual(micro.parse(TEXT), {
            "event_step": 382.7,
            "pick_random": {3: 52.77, 10000: 119.7},
            "route": {10: 1291.0, 100000: 3194.0},
        })
        self.assertIn("size ×3,333: cost ×2.3", "\n".join(micro.lines(micro.parse(TEXT))))


if __name__ == "__main__":
    unittest.main()
