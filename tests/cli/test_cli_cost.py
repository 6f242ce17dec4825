"""`nldsl cost`: its tables, its JSON, and what it says of wrong arguments."""

from __future__ import annotations

import json

from .conftest import Nldsl

SIZES = ("--set", "dim=8", "--length", "8")


def test_tables(nldsl: Nldsl) -> None:
    ran = nldsl("cost", "std.delta:DeltaNet", *SIZES)
    assert ran.code == 0
    lines = [line.split()[0] for line in ran.out.splitlines() if line]
    assert [lines.count(word) for word in ("level", "block", "total", "peak")] == [1, 1, 2, 1]
    assert "on NVIDIA H200 SXM (67T FLOP/s in float32, 4.8TB/s)" in ran.out


def test_json(nldsl: Nldsl) -> None:
    ran = nldsl("cost", "std.delta:DeltaNet", *SIZES, "--json")
    found = json.loads(ran.out)
    assert found["program"] == "DeltaNet" and found["length"] == 8
    assert found["total"]["parameters"] == sum(row["parameters"] for row in found["blocks"])


def test_a_device_of_ones_own(nldsl: Nldsl) -> None:
    ran = nldsl("cost", "std.delta:DeltaNet", *SIZES, "--device", "cpu", "--peak", "1e11", "--bandwidth", "2e10")
    assert ran.code == 0 and "on cpu (100G FLOP/s in float32, 20GB/s)" in ran.out


def test_an_unknown_device(nldsl: Nldsl) -> None:
    ran = nldsl("cost", "std.delta:DeltaNet", *SIZES, "--device", "cpu")
    assert ran.code == 1 and not ran.out
    assert ran.err.strip() == (
        "error: no figures are known of `cpu`: give --peak FLOP/S and --bandwidth BYTES/S, "
        "or one of h200, h100, a100, l4"
    )


def test_wrong_arguments(nldsl: Nldsl) -> None:
    assert nldsl("cost", "std.delta:DeltaNet", "--set", "dim=8", "--length", "1").code == 2
    wrong = nldsl("cost", "std.delta:Nothing")
    assert wrong.code == 1 and "NL109" in wrong.err
