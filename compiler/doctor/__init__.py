"""Whether a program's memories live: their sizes, gates, writes, how long they keep what they were told, and which
parameters never learn. Read `examination` first."""

from nldsl.compiler.doctor.examination import examine
from nldsl.compiler.doctor.report import Report

__all__ = ["Report", "examine"]
