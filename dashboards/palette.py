"""Colours of the cockpit: one order for series, one blue ramp for quantities, four for severity."""

CATEGORICAL = (
    "#0b5cad", "#f08c00", "#1f9d6b", "#8e44ad", "#17a2b8", "#c0392b", "#7f8c8d", "#d4a017",
    "#5d6dc9", "#66a61e", "#b5651d", "#2c3e50", "#e377c2", "#3fb1a5", "#a0522d",
)  # fmt: skip
SEQUENTIAL = ("#e3eef9", "#bcd6ef", "#8ab8e2", "#5596d1", "#2a74b8", "#0b4f9e", "#08306b")
SEVERITY = {"red": "#c8102e", "orange": "#e07b00", "yellow": "#c9a400", "info": "#0b5cad"}
