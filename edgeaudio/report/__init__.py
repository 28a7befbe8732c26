"""The report: one HTML file that shows whether a classifier is fit to ship, and why."""

from edgeaudio.report.page import Example, render, write

__all__ = ["Example", "render", "write"]
