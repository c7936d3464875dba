"""The gate fails when it must, and only then."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import gate
import lab
import proxies

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
            gate.put(path, {"get": 10_000})
            self.assertEqual(gate.read(path)["instructions"], {"get": 10_000})
            said = []
            with mock.patch.object(gate, "count", return_value={"get": 10_200}):
                gate.check(None, path, said.append)
            with mock.patch.object(gate, "count", return_value={"get": 10_400}):
                self.assertRaises(gate.Grown, gate.check, None, path, said.append)
            self.assertTrue(any("+4.00 %" in line for line in said), said)

    def test_one_figure_is_put_on_record_and_checked_without_the_others(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "record.toml"
            path.write_text("# said at the top\n")
            gate.put(path, {"get": 10_000, "post_16k": 50_000})
            gate.put(path, {"get_http2": 20_000, "get": 9_000})
            self.assertTrue(path.read_text().startswith("# said at the top\n\nrustc = "))
            figures = {"get": 9_000, "post_16k": 50_000, "get_http2": 20_000}
            self.assertEqual(gate.read(path)["instructions"], figures)
            some = {"get_http2": gate.WORKS["get_http2"]}
            for cost, has_grown in ((20_100, False), (20_700, True)):
                with mock.patch.object(gate, "count", return_value={"get_http2": cost}):
                    check = (gate.check, None, path, lambda line: None, some)
                    self.assertRaises(gate.Grown, *check) if has_grown else check[0](*check[1:])

    def test_another_compiler_is_said(self):
        lines, bad = gate.compare(RECORD, dict(RECORD["instructions"]), "1.96.0")
        self.assertEqual(bad, [])
        self.assertIn("rustc 1.95.0", lines[-1])


class H2load(unittest.TestCase):
    """Its words, cut to what is read of them."""

    SAID = ("Application protocol: {}\nfinished in {}, 4.14 req/s, 100B/s\n"
            "requests: 12 total, 12 started, 12 done, 12 succeeded, 0 failed, 0 errored, 0 timeout\n"
            "status codes: {} 2xx, 0 3xx, 0 4xx, 0 5xx\n")

    def test_the_time_is_read_in_each_unit(self):
        for took, seconds in (("1.50s", 1.5), ("20.00ms", 0.02), ("900us", 0.0009)):
            for protocol in ("h2", "h2c"):
                self.assertAlmostEqual(lab.h2load_seconds("x", 12, self.SAID.format(protocol, took, 12)), seconds)

    def test_less_than_all_fails(self):
        self.assertRaises(proxies.Failed, lab.h2load_seconds, "x", 12, self.SAID.format("h2c", "1s", 11))
        self.assertRaises(proxies.Failed, lab.h2load_seconds, "x", 13, self.SAID.format("h2c", "1s", 12))
        self.assertRaises(proxies.Failed, lab.h2load_seconds, "x", 12, "")

    def test_another_protocol_is_lacking(self):
        self.assertRaises(proxies.Lacking, lab.h2load_seconds, "x", 12, self.SAID.format("http/1.1", "1s", 12))


if __name__ == "__main__":
    unittest.main()
