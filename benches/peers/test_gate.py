"""The gate fails when it must, and only then."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import gate

RECORD = {"rustc": "1.95.0", "instructions": {"get": 10_000, "post_16k": 50_000}}


def wrong(counted):
    return gate.compare(RECORD, counted, "1.95.0")[1]


class Gate(unittest.TestCase):
    def test_the_same_and_noise_pass(self):
        self.assertEqual(wrong({"get": 10_000, "post_16k": 50_000}), [])
        self.assertEqual(wrong({"get": 10_290, "post_16k": 49_000}), [])

    def test_three_per_cent_more_of_one_fails(self):
        self.assertIn("get: 10,310 instructions, +3.1 %", wrong({"get": 10_310, "post_16k": 50_000})[0])
        self.assertEqual(len(wrong({"get": 9_000, "post_16k": 52_000})), 1)

    def test_a_figure_cannot_be_left_out_or_go_unrecorded(self):
        self.assertIn("was not counted", wrong({"get": 10_000})[0])
        self.assertIn("not on record", wrong({"get": 10_000, "post_16k": 50_000, "tls": 1})[0])

    def test_a_rise_ends_the_command_with_an_error(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "record.toml"
            gate.write(path, {"get": 10_000})
            self.assertEqual(gate.read(path)["instructions"], {"get": 10_000})
            said = []
            with mock.patch.object(gate, "count", return_value={"get": 10_200}):
                gate.check(None, path, said.append)
            with mock.patch.object(gate, "count", return_value={"get": 10_400}):
                self.assertRaises(gate.Grown, gate.check, None, path, said.append)
            self.assertTrue(any("+4.00 %" in line for line in said), said)

    def test_another_compiler_is_said(self):
        lines, bad = gate.compare(RECORD, dict(RECORD["instructions"]), "1.96.0")
        self.assertEqual(bad, [])
        self.assertIn("rustc 1.95.0", lines[-1])


if __name__ == "__main__":
    unittest.main()
